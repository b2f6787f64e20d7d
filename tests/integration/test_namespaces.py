"""Private hosts files, for real: as root and as a user without rights, through the keeper and through `shoal exec`."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.engines.local import keeper, names
from shoal.engines.local.keeper_client import KeeperError
from tests.integration.keeper_box import PATIENCE_S, alive, ask, keeper_box, until

POSSIBLE, WHY_NOT = names.detect()
pytestmark = [pytest.mark.integration, pytest.mark.skipif(not POSSIBLE, reason=WHY_NOT)]

NOBODY = 65534
LOOKUP = "import socket; print(socket.getaddrinfo('product-service', 3001, type=socket.SOCK_STREAM)[0][4][0])"
HOSTS = "127.0.0.1\tlocalhost\n127.77.0.5\tproduct-service\n"


def public_python() -> str:
    """An interpreter that another user may run: ours may live below /root."""
    for path in (sys.executable, "/usr/bin/python3"):
        try:
            result = subprocess.run([path, "-c", "print()"], user=NOBODY, group=NOBODY, check=False, cwd="/")
        except OSError:
            continue
        if result.returncode == 0:
            return path
    pytest.skip("no interpreter for other users")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that the unprivileged user may enter, with the hosts file and the keeper's code."""
    with tempfile.TemporaryDirectory(prefix="shoal-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "hosts").write_text(HOSTS)
        (folder / "nsswitch").write_text(names.nsswitch_text(""))
        shutil.copytree(Path(keeper.__file__).parent, folder / "keeper", ignore=shutil.ignore_patterns("__pycache__"))
        yield folder


def enter(folder: Path, *argv: str, uid: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [public_python() if uid else sys.executable, "-I", "-S", "-B", str(folder / "keeper" / "enter.py")]
    return subprocess.run(
        [*command, str(folder / "hosts"), str(folder / "nsswitch"), "--", *argv],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd="/",
        **({} if uid is None else {"user": uid, "group": uid, "extra_groups": []}),  # type: ignore[arg-type]
    )


users = pytest.mark.parametrize(
    "uid",
    [None, pytest.param(NOBODY, marks=pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become nobody"))],
)


@users
def test_a_command_sees_the_names_and_is_the_user_it_was(shared: Path, uid: int | None) -> None:
    before = Path("/etc/hosts").read_bytes()
    lookup = enter(shared, public_python() if uid else sys.executable, "-c", LOOKUP, uid=uid)
    assert (lookup.stdout, lookup.stderr) == ("127.77.0.5\n", "")
    assert enter(shared, "getent", "hosts", "product-service", uid=uid).stdout.split() == [
        "127.77.0.5",
        "product-service",
    ]
    assert enter(shared, "cat", "/etc/nsswitch.conf", uid=uid).stdout == "hosts: files dns\n"
    expected = os.getuid() if uid is None else uid
    assert enter(shared, "sh", "-c", "id -u; id -g", uid=uid).stdout.split() == [str(expected), str(expected)]
    # No rights came with it.
    status = enter(shared, "grep", "CapEff", "/proc/self/status", uid=uid).stdout
    assert uid is None or status.split() == ["CapEff:", "0000000000000000"]
    assert enter(shared, "touch", str(shared / "root-only"), uid=uid).returncode == (0 if uid is None else 1)
    assert Path("/etc/hosts").read_bytes() == before


@users
def test_the_commands_exit_code_is_the_answer(shared: Path, uid: int | None) -> None:
    assert enter(shared, "sh", "-c", "exit 42", uid=uid).returncode == 42
    assert enter(shared, "sh", "-c", "kill -TERM $$", uid=uid).returncode == -15
    missing = enter(shared, "no-such-command", uid=uid)
    assert missing.returncode == 127
    assert "cannot run no-such-command: no such command in PATH" in missing.stderr
    refused = enter(shared, "/etc/passwd", uid=uid)
    assert refused.returncode == 126
    assert "cannot run /etc/passwd" in refused.stderr


@users
def test_names_that_cannot_be_had_are_said_so(shared: Path, uid: int | None) -> None:
    (shared / "hosts").unlink()
    result = enter(shared, "true", uid=uid)
    assert result.returncode == 125
    assert f"mounting {shared}/hosts over /etc/hosts was refused (No such file or directory)" in result.stderr


def test_a_terminal_stays_a_terminal(shared: Path) -> None:
    command = [sys.executable, "-I", "-S", str(shared / "keeper" / "enter.py"), str(shared / "hosts"), "-", "--"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*command, "sh", "-c", "test -t 0 && test -t 1 && echo terminal; read line; exit 5"])
    output = b""
    while b"terminal" not in output:
        output += os.read(terminal, 1000)
    os.write(terminal, b"\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(terminal)


def test_what_the_machine_mounts_later_appears_inside(shared: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root to mount")
    mountpoint = shared / "later"
    mountpoint.mkdir()
    command = [sys.executable, "-I", "-S", str(shared / "keeper" / "enter.py"), str(shared / "hosts"), "-", "--"]
    script = f"echo in; read line; ls {mountpoint}"
    # A propagating mount of our own, whatever the machine's root is.
    outer = f"mount --make-rshared / && exec {' '.join(command)} sh -c '{script}'"
    inside = subprocess.Popen(["sh", "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert inside.stdin is not None
    assert inside.stdout is not None
    try:
        assert inside.stdout.readline() == "in\n"
        subprocess.run(["mount", "-t", "tmpfs", "none", str(mountpoint)], check=True)
        (mountpoint / "seen").write_text("")
        inside.stdin.write("\n")
        inside.stdin.flush()
        assert inside.stdout.read() == "seen\n"
    finally:
        subprocess.run(["umount", str(mountpoint)], check=False)
        inside.stdin.close()
        inside.stdout.close()
        inside.wait(PATIENCE_S)


def test_a_replica_finds_its_names_through_the_keeper(shared: Path, tmp_path: Path) -> None:
    namespace = {"hosts": str(shared / "hosts"), "nsswitch": str(shared / "nsswitch")}
    outside = Path("/etc/hosts").read_text().splitlines()

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            pid = await box.python("named", LOOKUP, namespace=namespace)
            assert await box.exited("named", pid=pid) == 0
            assert box.lines("named") == ["127.77.0.5"]
            assert await box.run("plain", "cat", "/etc/hosts") == outside
            with pytest.raises(KeeperError) as caught:
                await box.spawn("bad", "true", namespace={"hosts": str(shared / "missing"), "nsswitch": None})
            assert caught.value.reason == "namespace-failed"
            assert "missing over /etc/hosts was refused" in str(caught.value)

    asyncio.run(main())


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become nobody")
def test_a_keeper_without_rights_gives_names_too(shared: Path) -> None:
    """The whole keeper as nobody: start, names, exit codes, adoption, end."""
    root, run = shared / "root", shared / "run"
    for folder in (root, root / "logs", run):
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)

    def start() -> None:
        command = [public_python(), "-I", "-S", "-B", str(shared / "keeper"), str(root), str(run), "--"]
        subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], check=True, cwd="/", timeout=PATIENCE_S)

    def call(**request: object) -> dict[str, object]:
        (answer,) = ask(run / "keeper.sock", json.dumps(request).encode() + b"\n")
        return answer

    def spawn(name: str, *argv: str) -> dict[str, object]:
        return call(
            op="spawn",
            name=name,
            argv=argv,
            env={"PATH": os.environ["PATH"]},
            cwd="/",
            log=str(root / "logs" / f"{name}.log"),
            namespace={"hosts": str(shared / "hosts"), "nsswitch": str(shared / "nsswitch")},
        )

    def process(name: str) -> dict[str, object]:
        processes = call(op="list")["ok"]["processes"]  # type: ignore[index]
        return next(found for found in processes if found["name"] == name)

    async def main() -> None:
        start()
        pid = call(op="hello")["ok"]["pid"]  # type: ignore[index]
        assert "ok" in spawn("lookup", public_python(), "-c", LOOKUP + "; import os; print(os.getuid())")
        await until(lambda: not process("lookup")["running"])
        log = (root / "logs" / "lookup.log").read_text().splitlines()
        assert [line.split(" ", 1)[1] for line in log] == ["127.77.0.5", str(NOBODY)]
        assert "ok" in spawn("web", "sleep", "100")
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        start()
        assert process("web")["running"]
        assert call(op="signal", name="web", signal=15, group=True)["ok"] == {}
        await until(lambda: not process("web")["running"])
        assert process("web")["exit_code"] in (None, -15)

    try:
        asyncio.run(main())
    finally:
        call(op="shutdown")
        asyncio.run(until(lambda: not (run / "keeper.sock").exists()))
    assert not (root / "processes").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to change /etc")
@pytest.mark.parametrize(("target", "works"), [("real-hosts", True), ("missing", False)])
def test_a_link_for_etc_hosts_is_followed_and_a_dangling_one_told(shared: Path, target: str, works: bool) -> None:
    """In a mount namespace of the test's own, with its own /etc."""
    (shared / "etc").mkdir()
    (shared / "etc" / "real-hosts").write_text("127.0.0.1 localhost\n")
    (shared / "etc" / "hosts").symlink_to(f"/etc/{target}")
    enter_command = f"{sys.executable} -I -S {shared}/keeper/enter.py {shared}/hosts - -- cat /etc/hosts"
    script = f"mount --bind {shared}/etc /etc && {enter_command}"
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=20
    )
    if works:
        assert result.stdout == HOSTS
    else:
        assert result.returncode == 125
        assert "/etc/hosts, a link to /etc/missing, does not exist" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to change /run")
def test_the_name_cache_is_hidden(shared: Path) -> None:
    inner = f"{sys.executable} -I -S {shared}/keeper/enter.py {shared}/hosts - -- ls -A /run/nscd"
    script = f"mount -t tmpfs none /run && mkdir /run/nscd && touch /run/nscd/socket && {inner} && ls -A /run/nscd"
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=20
    )
    assert (result.stdout, result.stderr) == ("socket\n", "")


def test_a_machine_that_refuses_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "enter.py"
    refusing.write_text(
        "import sys\nsys.stderr.write('shoal: a new namespace was refused (Operation not permitted)')\nsys.exit(125)"
    )
    monkeypatch.setattr(names, "ENTER", refusing)
    found, why = names.detect()
    assert not found
    assert why.startswith("a new namespace was refused (Operation not permitted); ")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert names.detect() == (
        False,
        "private hosts files need Linux; services find each other by variables such as PRODUCT_SERVICE_URL",
    )
