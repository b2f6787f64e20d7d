"""On machines that let nobody have a hosts file of his own: variables lead to the same edges, and Shoal says why."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shoal.xds.admin import admin_get
from tests.support import refusing
from tests.support.plane import ECHO, Plane, plane
from tests.support.port import free_port
from tests.support.processes import alive, until
from tests.support.user import UnavailableError, nobody

pytestmark = pytest.mark.integration

CURL = "curl -sS --max-time 10 --noproxy '*'"
ONLY_VARIABLES = "services find each other by variables only"


@dataclass(frozen=True)
class Machine:
    """One that refuses, and what runs a command on it."""

    command: Sequence[str]
    """The start of an argv that `-m shoal ...` follows."""
    environment: Mapping[str, str]
    owner: int | None
    refusal: str
    """What the kernel says."""
    way_out: str


def under_seccomp(folder: Path) -> Machine:
    """As in a container under Docker's default profile: `unshare` and `mount` are not permitted, to root neither."""
    if sys.platform != "linux" or platform.machine() not in refusing.NUMBERS:
        pytest.skip("needs Linux on x86_64 or aarch64")
    command = [sys.executable, refusing.__file__, sys.executable]
    return Machine(command, {}, None, "Operation not permitted", "variables such as PRODUCT_SERVICE_URL")


def under_seccomp_as_a_user(folder: Path) -> Machine:
    machine = under_seccomp(folder)
    try:
        somebody = nobody(folder)
    except UnavailableError as error:
        pytest.skip(f"cannot run as another user: {error}")
    script = folder / "refusing.py"  # ours may lie where others may not read
    shutil.copy(refusing.__file__, script)
    command = [*somebody.python, str(script), somebody.python[-1]]
    return Machine(command, somebody.environment, somebody.uid, machine.refusal, machine.way_out)


def where_none_are_left(folder: Path) -> Machine:
    """A user on a machine with `user.max_user_namespaces=0`: made inside a user namespace, so that it is ours alone."""
    try:
        somebody = nobody(folder)
    except UnavailableError as error:
        pytest.skip(f"cannot run as another user: {error}")
    become, python = somebody.python[:-1], somebody.python[-1]
    inside = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps -all --inh-caps -all -- "$@"'
    command = [*become, "unshare", "--user", "--map-current-user", "--keep-caps", "--", "sh", "-c", inside, "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("names do not work here: no user namespaces")
    way_out = "user.max_user_namespaces=10000"
    return Machine([*command, python], somebody.environment, somebody.uid, "No space left on device", way_out)


MACHINES = [under_seccomp, under_seccomp_as_a_user, where_none_are_left]


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """pytest's tmp_path is closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="shoal-e2e-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("make", MACHINES)
def test_variables_lead_to_edges_that_tell_who_calls(public_folder: Path, make: Callable[[Path], Machine]) -> None:
    machine = make(public_folder)
    peer, one, two = free_port(), free_port(), free_port()
    text = f"""
services:
  peer: {{run: "echo:app", port: {peer}, replicas: 2}}
  one: {{run: "echo:app", port: {one}, calls: [peer]}}
  two: {{run: "echo:app", port: {two}, calls: [peer], env: {{PEER: "${{peer.address}}"}}}}
"""
    with plane(
        public_folder / "app",
        files={"shoal.yaml": text, "echo.py": ECHO},
        command=[*machine.command, "-m", "shoal"],
        environment=machine.environment,
        owner=machine.owner,
    ) as shoal:
        done = shoal.shoal("up", "-d")
        shoal.note_shared_memory()
        assert ONLY_VARIABLES in done.stdout + done.stderr

        status = shoal.status()
        assert status["names"] == "env"
        assert machine.refusal in status["names_reason"] and machine.way_out in status["names_reason"], status
        assert f"{ONLY_VARIABLES}: {status['names_reason']}" in " ".join(shoal.shoal("status").stdout.split())
        warned = [event for event in shoal.events() if ONLY_VARIABLES in event["message"]]
        assert len(warned) == 1, warned

        addresses = {}
        for caller in ("one", "two"):
            addresses[caller] = call_by_variable(shoal, caller)
        assert addresses["one"] != addresses["two"] and all(a.startswith("127.") for a in addresses.values())
        done = shoal.shoal("exec", "two", "--", "sh", "-c", f'{CURL} "http://$PEER/as-written"')
        assert json.loads(done.stdout)["path"] == "/as-written"
        counted = asyncio.run(requests_by_edge(shoal))
        assert counted == {f"edge.one.peer.{peer}": 1, f"edge.two.peer.{peer}": 2}

        shoal.shoal("restart", "one")
        shoal.up()
        assert len([event for event in shoal.events() if ONLY_VARIABLES in event["message"]]) == 1


def call_by_variable(shoal: Plane, caller: str) -> str:
    """Calls `peer` by PEER_URL; gives the address in it. By its name there is nobody."""
    done = shoal.shoal("exec", caller, "--", "sh", "-c", f'echo "$PEER_HOST"; {CURL} "$PEER_URL/"')
    host, body = done.stdout.split("\n", 1)
    assert json.loads(body)["service"] == "peer"
    assert shoal.shoal("exec", caller, "--", "getent", "hosts", "peer", check=False).returncode != 0
    return host


async def requests_by_edge(shoal: Plane) -> dict[str, int]:
    """As Envoy counted them."""
    text = await admin_get("/stats?filter=edge", shoal.run / "envoy-admin.sock")
    return {
        name: int(n)
        for name, n in re.findall(r"^http\.(edge\.\S+)\.downstream_rq_total: (\d+)$", text, re.M)
        if n != "0"
    }


@pytest.mark.parametrize("make", MACHINES)
def test_doctor_says_it_works_with_less_and_what_would_allow_it(
    public_folder: Path, make: Callable[[Path], Machine]
) -> None:
    machine = make(public_folder)
    with plane(
        public_folder / "app",
        files={"shoal.yaml": "services: {web: {run: 'echo:app', port: 9000, publish: false}}", "echo.py": ECHO},
        command=[*machine.command, "-m", "shoal"],
        environment=machine.environment,
        owner=machine.owner,
    ) as shoal:
        done = shoal.shoal("doctor", "--json", check=False)
        [names] = [finding for finding in json.loads(done.stdout) if finding["name"] == "names"]
        assert names["state"] == "degraded"
        assert machine.refusal in names["detail"] and machine.way_out in names["way_out"], names
        assert machine.way_out in shoal.shoal("doctor", check=False).stdout


@dataclass(frozen=True)
class Container:
    """A place in which all read one `/etc/hosts` that is mounted there, and nobody makes namespaces."""

    hosts: Path
    command: Sequence[str]
    """The start of an argv that `-m shoal ...` follows."""

    @property
    def names(self) -> dict[str, str]:
        """Those that lead to edges."""
        found = [line.split() for line in self.hosts.read_text().splitlines() if line.startswith("127.")]
        return {words[1]: words[0] for words in found if words[1] != "localhost"}


CONTAINERS_OWN = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n172.17.0.2\t3f2a9c taken\n"
FOR_ALL = "an /etc/hosts for all"


@pytest.fixture
def container(tmp_path: Path) -> Container:
    if sys.platform != "linux" or platform.machine() not in refusing.NUMBERS:
        pytest.skip("needs Linux on x86_64 or aarch64")
    hosts = tmp_path / "container-hosts"
    hosts.write_text(CONTAINERS_OWN)
    inside = 'mount --bind "$0" /etc/hosts && exec "$@"'
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    command = [*unshare, "--", "sh", "-c", inside, str(hosts)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no file can be mounted over another here")
    return Container(hosts, [*command, sys.executable, refusing.__file__, sys.executable])


def in_container(place: Container, folder: Path, text: str) -> AbstractContextManager[Plane]:
    files = {"shoal.yaml": text, "echo.py": ECHO}
    command = [*place.command, "-m", "shoal"]
    return plane(folder, files=files, command=command, environment={"SHOAL_HOSTS": ""})


def test_in_a_container_two_apps_have_their_names_in_its_hosts_file_and_leave_it_as_it_was(
    container: Container, tmp_path: Path
) -> None:
    peer, one, taken, more = (free_port() for _ in range(4))
    first = f"""
app: first
services:
  peer: {{run: "echo:app", port: {peer}}}
  taken: {{run: "echo:app", port: {taken}}}
  one:
    command: [sh, -c, "{CURL} http://peer:{peer}/by-name; exec python3 -m http.server --bind 127.0.0.1 $PORT"]
    port: {one}
    calls: [peer]
    after: [peer]
"""
    second = f"""
app: second
services:
  peer: {{run: "echo:app", port: {free_port()}}}
  other: {{run: "echo:app", port: {more}}}
"""
    with in_container(container, tmp_path / "first", first) as shoal:
        assert FOR_ALL in shoal.shoal("up", "-d").stderr
        shoal.note_shared_memory()
        status = shoal.status()
        assert status["names"] == "hosts" and "Operation not permitted" in status["names_reason"], status
        assert FOR_ALL in " ".join(shoal.shoal("status").stdout.split())
        assert container.hosts.read_text().startswith(CONTAINERS_OWN)
        assert container.names.keys() == {"peer", "one"}
        [replica] = shoal.replicas("one")
        shoal.eventually(lambda: "/by-name" in shoal.log_text("one", replica["id"]), "its call by name")
        warned = [event for event in shoal.events() if "is taken in /etc/hosts by another line" in event["message"]]
        assert [event["subject"] for event in warned] == ["taken"]
        # Nobody knows who calls by name; by variable it is known as ever.
        assert call_by_variable_beside_names(shoal) not in container.names.values()
        assert asyncio.run(requests_by_edge(shoal)) == {f"edge.@.peer.{peer}": 1, f"edge.one.peer.{peer}": 1}
        findings = json.loads(shoal.shoal("doctor", "--json", check=False).stdout)
        [names] = [finding for finding in findings if finding["name"] == "names"]
        assert names["state"] == "degraded" and "the container's /etc/hosts" in names["detail"], names
        with_first = container.hosts.read_text()

        with in_container(container, tmp_path / "second", second) as another:
            another.up()
            assert container.names.keys() == {"peer", "one", "other"}
            assert any("'peer' is taken in /etc/hosts by app 'first'" in event["message"] for event in another.events())
            another.down()
        assert container.hosts.read_text() == with_first

        kill_all(shoal)
        with in_container(container, tmp_path / "second", second) as another:
            another.up()  # whose names stand there without anybody is known to nobody
            assert container.names.keys() == {"peer", "other"}
        assert container.hosts.read_text() == CONTAINERS_OWN

        shoal.up()
        assert container.names.keys() == {"peer", "one"}
        shoal.down()
        assert container.hosts.read_text() == CONTAINERS_OWN


def call_by_variable_beside_names(shoal: Plane) -> str:
    """Calls `peer` as `one` by PEER_URL; gives the address in it."""
    done = shoal.shoal("exec", "one", "--", "sh", "-c", f'echo "$PEER_HOST"; {CURL} "$PEER_URL/"')
    host, body = done.stdout.split("\n", 1)
    assert json.loads(body)["service"] == "peer"
    return host


def kill_all(shoal: Plane) -> None:
    """As when a container's processes are all killed: nobody is told."""
    keeper, replicas = shoal.keeper_pid(), shoal.pids().values()
    both = (keeper, shoal.status()["daemon_pid"])
    for pid in both:
        os.kill(pid, signal.SIGSTOP)  # else the one of them that lives longer starts the other again
    for pid in (*both, *replicas):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # with its keeper
    for pid in replicas:
        until(lambda pid=pid: not alive(pid), f"the end of {pid}", within_s=10)
