"""Who listens where."""

from __future__ import annotations

import os
import socket

import pytest

from shoal.engines.local import ownership
from shoal.engines.local.ownership import Owner

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0 100 0 0 10 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
   0: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 99 1 0 100
   1: 00000000000000000000000001000000:0BB9 00000000000000000000000000000000:0000 0A 0:0 00:0 0 5 0 98 1 0 100
   2: 0000000000000000FFFF00000100007F:0BBA 00000000000000000000000000000000:0000 0A 0:0 00:0 0 5 0 97 1 0 100
"""


@pytest.mark.skipif(os.sys.byteorder != "little", reason="the sample is of a little-endian machine")  # type: ignore[attr-defined]
def test_listening_sockets_are_read_from_the_kernels_table() -> None:
    found = [(str(one), one.uid, one.inode) for one in ownership.parse(TCP) + ownership.parse(TCP6)]
    assert found == [
        ("127.0.0.1:8080", 1000, 4242),
        ("0.0.0.0:22", 0, 17),
        ("[::]:3000", 0, 99),
        ("[::1]:3001", 5, 98),
        ("127.0.0.1:3002", 5, 97),
    ]


@pytest.mark.parametrize(
    ("held", "wanted", "conflict"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.77.0.1", False),
        ("0.0.0.0", "127.77.0.1", True),
        ("::", "127.77.0.1", True),
        ("::", "::1", True),
        ("0.0.0.0", "::1", False),
        ("::1", "127.0.0.1", False),
        ("127.0.0.1", "0.0.0.0", False),
    ],
)
def test_which_addresses_stand_in_each_others_way(held: str, wanted: str, conflict: bool) -> None:
    assert ownership.conflicts(held, wanted) == conflict


def test_our_own_listener_is_found_by_port_and_by_session() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        owner = ownership.owner_of(port)
        assert owner is not None
        assert owner.pid == os.getpid()
        assert str(owner) == f"pid {os.getpid()} ({ownership.command_of(os.getpid())})"
        assert ownership.owner_of(port, host="127.0.0.2") is None
        assert port in [one.port for one in ownership.listeners_of(os.getsid(0))]
        assert ownership.belongs_to(os.getpid(), {os.getsid(0)})
    assert ownership.owner_of(port) is None


def test_another_users_process_is_named_by_its_user() -> None:
    assert str(Owner(pid=None, command="of user 1000")) == "a process of user 1000"
