"""`network` and `listen` in the app file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.model.app import Network
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError


def service(line: str, folder: Path) -> tuple[Network, int | None, bool]:
    text = f"services:\n  web: {{{line}}}\n"
    (found,) = load_text(text.encode(), "shoal.yaml", folder, {}, "").services
    return found.network, found.listen, found.loopback


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("command: x, port: 80", (Network.HOST, None, False)),
        ("command: x, port: 80, network: own", (Network.OWN, None, False)),
        ("command: x, port: 80, network: own, listen: 9080", (Network.OWN, 9080, False)),
        ("command: x, port: 80, network: own, listen: '127.0.0.1:9080'", (Network.OWN, 9080, True)),
        ("run: 'a:b', port: 80, network: own", (Network.OWN, None, False)),
    ],
)
def test_what_is_written_is_what_the_service_has(
    line: str, expected: tuple[Network, int | None, bool], tmp_path: Path
) -> None:
    assert service(line, tmp_path) == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("command: x, port: 80, network: pod", "must be host or own"),
        ("command: x, port: 80, listen: 9080", "needs a network of its own; add 'network: own', or listen on $PORT"),
        ("run: 'a:b', port: 80, network: own, listen: 9080", "is served where Shoal says; remove it"),
        ("external: 'db:5432', network: own", "Shoal does not run what is 'external', so it has no 'network'"),
        ("command: x, port: 80, network: own, listen: '0.0.0.0:80'", "must be a port, or 127.0.0.1 and a port"),
        ("command: x, port: 80, network: own, listen: 70000", "has no port from 1 to 65535"),
        ("command: x, port: 80, network: own, listen: true", "must be a port, or 127.0.0.1 and a port"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        service(line, tmp_path)
    (problem,) = caught.value.problems
    assert words in str(problem), problem
