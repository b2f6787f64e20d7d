"""Private hosts files: one for each set of names, and none that changes."""

from __future__ import annotations

from pathlib import Path

from shoal.engines.local.hosts import HostsFiles
from shoal.model.app import App
from shoal.model.topology import DENIED, Edge, EdgeMap
from shoal.testing.apps import app, service


def edges(*pairs: tuple[str, str]) -> EdgeMap:
    return EdgeMap(
        network=77, edges={pair: Edge(caller=pair[0], callee=pair[1], number=n) for n, pair in enumerate(pairs, 1)}
    )


EDGES = edges(("web", "api"), ("web", DENIED), ("api", DENIED))
APP: App = app(service("web"), service("api", port=3001), service("worker", port=None))


def entries(path: Path) -> dict[str, str]:
    """Name -> address of the app's part."""
    lines = [line.split() for line in path.read_text().splitlines() if line.startswith("127.77.")]
    return {name: address for address, name in lines}


def test_every_service_with_a_port_has_the_address_of_its_edge(tmp_path: Path) -> None:
    hosts = HostsFiles(tmp_path)
    assert entries(hosts.write(APP, EDGES, "web")) == {"api": "127.77.0.1", "web": "127.77.0.2"}
    assert entries(hosts.write(APP, EDGES, "api")) == {"api": "127.77.0.3", "web": "127.77.0.3"}


def test_a_file_that_may_be_bound_is_never_written_again(tmp_path: Path) -> None:
    hosts = HostsFiles(tmp_path)
    path = hosts.write(APP, EDGES, "web")
    before = path.stat()
    assert hosts.write(APP, EDGES, "web") == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_names_are_another_file(tmp_path: Path) -> None:
    hosts = HostsFiles(tmp_path)
    old = hosts.write(APP, EDGES, "web")
    new = hosts.write(app(service("web"), "extra"), EDGES, "web")
    assert old.exists()
    assert new != old
    assert entries(new) == {"extra": "127.77.0.2", "web": "127.77.0.2"}


def test_only_files_that_nobody_has_bound_are_dropped(tmp_path: Path) -> None:
    hosts = HostsFiles(tmp_path)
    bound = hosts.write(APP, EDGES, "web")
    unused = hosts.write(app(service("web")), EDGES, "web")
    others = hosts.write(APP, EDGES, "api")
    nsswitch = hosts.write_nsswitch()
    hosts.drop_unused("web", {str(bound)})
    assert bound.exists()
    assert others.exists()
    assert not unused.exists()
    assert nsswitch is None or nsswitch.exists()


def test_another_user_may_read_it(tmp_path: Path) -> None:
    assert HostsFiles(tmp_path).write(APP, EDGES, "web").stat().st_mode & 0o777 == 0o644
