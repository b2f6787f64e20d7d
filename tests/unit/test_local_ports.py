"""Ports for commands."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.engines.local.ports import PortLeases, is_free, lease_range
from shoal.errors import EngineError
from tests.support.port import free_port


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ((32_768, 60_999), range(20_000, 32_768)),
        ((49_152, 65_535), range(20_000, 49_152)),
        ((15_000, 60_999), range(10_000, 15_000)),
        ((1_024, 60_000), range(60_001, 65_536)),
        ((1_024, 65_535), range(20_000, 32_768)),
        ((20_500, 60_000), range(10_000, 20_000)),
    ],
)
def test_ports_are_leased_outside_of_the_kernels_own(kernel: tuple[int, int], expected: range) -> None:
    assert lease_range(kernel) == expected


@given(st.integers(1, 65_535), st.integers(0, 65_535))
def test_there_is_always_a_range_of_valid_ports(first: int, width: int) -> None:
    ports = lease_range((first, min(65_535, first + width)))
    assert len(ports) >= 1000
    assert ports.start >= 1024
    assert ports.stop <= 65_536


def test_no_two_replicas_share_a_port() -> None:
    first = free_port()
    ports = PortLeases("seed", range(first, first + 1))
    assert ports.lease("a") == first
    with pytest.raises(EngineError, match=f"no free port for b between {first} and {first}"):
        ports.lease("b")
    ports.release("a")
    assert ports.lease("b") == first


def test_the_next_attempt_tries_another_port_first() -> None:
    ports = PortLeases("seed")
    assert ports.lease("a") != ports.lease("a")


def test_an_adopted_port_is_not_given_away() -> None:
    first = free_port()
    ports = PortLeases("seed", range(first, first + 1))
    ports.adopt("old", first)
    with pytest.raises(EngineError):
        ports.lease("new")


def test_ports_that_the_app_uses_itself_are_avoided() -> None:
    first = free_port()
    with pytest.raises(EngineError):
        PortLeases("seed", range(first, first + 1)).lease("a", avoid={first})


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "127.77.0.3"])
def test_a_port_that_somebody_listens_on_is_not_free(host: str) -> None:
    with socket.create_server((host, 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_two_apps_begin_at_different_ports() -> None:
    assert PortLeases("/srv/a").lease("x") != PortLeases("/srv/b").lease("x")
