"""Names in a hosts file that all processes of a container read: a block for each app, and nothing else changes."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.control.revisions import edge_pairs
from shoal.engines.local import shared_names
from shoal.engines.local.hosts_block import Block, compose, names_in, parse
from shoal.engines.local.names import MADE_BY_SHOAL
from shoal.engines.local.shared_names import SharedNames, keeper_lives, why_not
from shoal.errors import EngineError
from shoal.model.app import App
from shoal.model.topology import ANYBODY, Edge, EdgeMap
from shoal.testing.apps import app, service

DOCKER = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n172.17.0.2\t3f2a9c\n"
SHOP = app(service("web"), service("api", port=3001), service("worker", port=None))


def edges_of(made: App, network: int = 77) -> EdgeMap:
    pairs = edge_pairs(made, anybody=True)
    leased = {pair: Edge(caller=pair[0], callee=pair[1], number=n) for n, pair in enumerate(pairs, 1)}
    return EdgeMap(network=network, edges=leased)


def resolved(hosts: Path) -> dict[str, str]:
    """As the C library has it: the first mention counts."""
    found: dict[str, str] = {}
    for line in hosts.read_text().splitlines():
        words = line.partition("#")[0].split()
        for name in words[1:]:
            found.setdefault(name, words[0])
    return found


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text(DOCKER)
    return path


@contextmanager
def another(hosts: Path, made: App, network: int = 78) -> Iterator[Path]:
    """An app with its names in the file and a keeper that listens; it is killed in the end. Gives its state folder."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="sh-") as folder, socket.socket(socket.AF_UNIX) as keeper:
        state = Path(folder)
        keeper.bind(f"{folder}/keeper.sock")
        keeper.listen()
        (state / "keeper.lock").write_text(json.dumps({"pid": 1, "run": folder}))
        SharedNames(state, hosts=hosts).write(made, edges_of(made, network))
        yield state


def test_every_service_with_a_port_has_its_name_and_the_file_comes_back_byte_for_byte(
    hosts: Path, tmp_path: Path
) -> None:
    before = hosts.stat().st_ino
    names = SharedNames(tmp_path / "state", hosts=hosts)
    edges = edges_of(SHOP)
    assert names.write(SHOP, edges) == {}
    assert hosts.read_text().startswith(DOCKER)
    ours = {name: at for name, at in resolved(hosts).items() if at.startswith("127.77.")}
    assert ours == {"web": edges.address(ANYBODY, "web"), "api": edges.address(ANYBODY, "api")}
    names.remove()
    assert hosts.read_text() == DOCKER
    assert hosts.stat().st_ino == before  # it may be a mount point


def test_what_is_there_already_is_not_written_again(hosts: Path, tmp_path: Path) -> None:
    SharedNames(tmp_path / "state", hosts=hosts).write(SHOP, edges_of(SHOP))
    before = hosts.stat().st_mtime_ns
    SharedNames(tmp_path / "state", hosts=hosts).write(SHOP, edges_of(SHOP))
    assert hosts.stat().st_mtime_ns == before


def test_names_come_and_go_with_their_services(hosts: Path, tmp_path: Path) -> None:
    names = SharedNames(tmp_path / "state", hosts=hosts)
    names.write(SHOP, edges_of(SHOP))
    less = app(service("web"))
    names.write(less, edges_of(less))
    assert "web" in resolved(hosts) and "api" not in resolved(hosts)
    assert hosts.read_text().count("BEGIN shoal") == 1


def test_a_name_of_another_app_that_runs_or_of_the_machine_is_left_to_it(hosts: Path, tmp_path: Path) -> None:
    hosts.write_text(DOCKER + "10.0.0.9 API\n")
    with another(hosts, app(service("web"))):
        theirs = resolved(hosts)["web"]
        mine = app(service("web"), service("api", port=3001), service("cart", port=3002))
        left_out = SharedNames(tmp_path / "state", hosts=hosts).write(mine, edges_of(mine))
        assert left_out == {"web": f"app {mine.name!r}", "api": "another line"}
        assert resolved(hosts)["web"] == theirs
        assert resolved(hosts)["cart"].startswith("127.77.")


def test_the_block_of_an_app_that_was_killed_goes_with_the_next_start_of_any(hosts: Path, tmp_path: Path) -> None:
    with another(hosts, app(service("old"))) as state:
        assert keeper_lives(state)
        kept = hosts.read_text()
    assert hosts.read_text() == kept and not keeper_lives(state)
    names = SharedNames(tmp_path / "state", hosts=hosts)
    names.write(SHOP, edges_of(SHOP))
    assert "old" not in resolved(hosts) and "web" in resolved(hosts)
    names.remove()
    assert hosts.read_text() == DOCKER


def test_two_apps_that_leave_in_any_order_leave_nothing(hosts: Path, tmp_path: Path) -> None:
    with another(hosts, app(service("first"))) as first, another(hosts, app(service("second")), 79) as second:
        SharedNames(first, hosts=hosts).remove()
        assert "first" not in resolved(hosts) and "second" in resolved(hosts)
        SharedNames(second, hosts=hosts).remove()
        assert hosts.read_text() == DOCKER


def test_what_others_wrote_behind_it_stays(hosts: Path, tmp_path: Path) -> None:
    names = SharedNames(tmp_path / "state", hosts=hosts)
    names.write(SHOP, edges_of(SHOP))
    with hosts.open("a") as file:
        file.write("10.0.0.3 database\n")
    names.write(SHOP, edges_of(SHOP))
    assert hosts.read_text().splitlines()[-1].startswith("# END shoal")
    names.remove()
    assert hosts.read_text() == DOCKER + "10.0.0.3 database\n"


def test_a_start_that_was_given_up_writes_nothing_after_the_end(hosts: Path, tmp_path: Path) -> None:
    names = SharedNames(tmp_path / "state", hosts=hosts)
    names.write(SHOP, edges_of(SHOP))
    names.remove()
    names.write(SHOP, edges_of(SHOP))
    names.write_again()
    assert hosts.read_text() == DOCKER


def test_a_block_that_another_took_for_a_dead_ones_comes_back(hosts: Path, tmp_path: Path) -> None:
    names = SharedNames(tmp_path / "state", hosts=hosts)
    names.write(SHOP, edges_of(SHOP))
    whole = hosts.read_text()
    hosts.write_text(DOCKER)
    names.write_again()
    assert hosts.read_text() == whole


def test_many_at_once_lose_no_line(hosts: Path, tmp_path: Path) -> None:
    makes = [app(service(f"s{number}")) for number in range(8)]
    alive = pytest.MonkeyPatch()
    alive.setattr(shared_names, "keeper_lives", lambda state: True)
    try:
        writers = [
            threading.Thread(
                target=SharedNames(tmp_path / str(n), hosts=hosts).write, args=(made, edges_of(made, 77 + n))
            )
            for n, made in enumerate(makes)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    finally:
        alive.undo()
    assert {f"s{number}" for number in range(8)} <= resolved(hosts).keys()
    assert hosts.read_text().startswith(DOCKER)


def test_a_lock_that_nobody_gives_back_is_told(hosts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_names, "LOCK_S_MAX", 0.0)
    with hosts.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(EngineError, match="lock"):
            SharedNames(tmp_path / "state", hosts=hosts).write(SHOP, edges_of(SHOP))
    assert hosts.read_text() == DOCKER


others = st.lists(st.sampled_from(["127.0.0.1 localhost", "", "# shop", "10.0.0.1 db x", "\ttab"]), max_size=4).map(
    "\n".join
)
blocks = st.lists(
    st.builds(
        lambda folder, names: Block(
            app="shop", state=f"/srv/{folder}/.shoal", entries=tuple((name, "127.77.0.9") for name in names)
        ),
        st.sampled_from(["a", "b c", "ü", "d\udcff"]),
        st.lists(st.sampled_from(["web", "api", "cart"]), min_size=1, unique=True),
    ),
    max_size=3,
)


@given(others, st.booleans(), blocks, st.integers(0, 2000))
def test_what_is_composed_is_read_as_it_was(text: str, ended: bool, made: list[Block], size: int) -> None:
    text += "\n" if ended and text else ""
    whole = compose(text, made, size=size)
    assert len(whole.encode("utf-8", "surrogateescape")) >= size
    kept, found = parse(whole)
    assert list(found) == made
    if made or size == 0:
        assert kept == text
    assert {"web", "api", "cart", "shop"} & names_in(whole) == {name for b in made for name, _ in b.entries}


@given(blocks, st.data())
def test_a_write_that_was_cut_off_anywhere_costs_no_line_of_the_machine(made: list[Block], data: st.DataObject) -> None:
    whole = compose(DOCKER, made)
    cut = data.draw(st.integers(len(DOCKER), len(whole)))
    kept, found = parse(whole[:cut])
    assert kept.startswith(DOCKER) and len(kept) - len(DOCKER) <= 2
    assert list(found) == made[: len(found)]


def test_a_block_that_was_changed_by_hand_is_no_block() -> None:
    whole = compose(DOCKER, [Block(app="shop", state="/s", entries=(("web", "127.77.0.9"),))])
    assert parse(whole.replace("127.77.0.9", "127.77.0.8")) == (DOCKER, ())


CONTAINER = "30 1 0:9 /var/lib/docker/containers/3f/hosts {} rw - ext4 /dev/sda rw\n"
MACHINE = "30 1 0:9 /etc/hosts {} rw - ext4 /dev/sda rw\n"


@pytest.mark.parametrize(
    ("said", "mounts", "marked", "why"),
    [
        ("", CONTAINER, False, ""),
        ("", "", True, ""),
        ("", "", False, "no container"),
        ("", MACHINE, True, "is the machine's"),  # bound into a container
        ("edit", "", False, ""),
        ("edit", MACHINE, False, ""),
        ("keep", CONTAINER, True, "SHOAL_HOSTS is 'keep'"),
        ("yes", CONTAINER, True, "may be 'edit' or 'keep'"),
    ],
)
def test_only_a_containers_own_file_is_written(
    hosts: Path, tmp_path: Path, said: str, mounts: str, marked: bool, why: str
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("29 1 0:8 / / rw - ext4 /dev/sda rw\n" + mounts.format(hosts))
    mark = str(tmp_path if marked else tmp_path / "no-such-mark")
    found = why_not({"SHOAL_HOSTS": said}, hosts=hosts, mounts=mountinfo, marks=(mark,))
    assert (why in found) if why else found == "", found


def test_a_link_and_a_private_file_of_a_service_are_left_alone(hosts: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(hosts)
    assert "no file of its own" in why_not({"SHOAL_HOSTS": "edit"}, hosts=link)
    assert "no file of its own" in why_not({"SHOAL_HOSTS": "edit"}, hosts=tmp_path / "none")
    hosts.write_text(f"{DOCKER}{MADE_BY_SHOAL}\n127.77.0.1\tweb\n")
    assert "private" in why_not({"SHOAL_HOSTS": "edit"}, hosts=hosts)


def test_a_file_that_cannot_be_written_says_so(hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may write everything
    assert "cannot be written" in why_not({"SHOAL_HOSTS": "edit"}, hosts=hosts)
