"""What the keeper does with one process: real ones, from fork to exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.engines.local.keeper_client import KeeperError
from tests.integration.keeper_box import alive, keeper_box, until

pytestmark = pytest.mark.integration


def test_every_way_to_end_is_reported_as_it_was(tmp_path: Path) -> None:
    ways = {
        "exit 0": 0,
        "exit 3": 3,
        "exit 255": 255,
        "kill -KILL $$": -signal.SIGKILL,
        "kill -SEGV $$": -signal.SIGSEGV,
        "kill -TERM $$": -signal.SIGTERM,
    }

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            for index, (script, code) in enumerate(ways.items()):
                pid = await box.spawn(f"p{index}", "sh", "-c", script)
                assert await box.exited(f"p{index}") == code, script
                event = await box.event("exited", f"p{index}")
                assert event["pid"] == pid
                assert event["tag"] == {"test": f"p{index}"}
            listed = {p["name"]: p for p in (await box.client.call("list"))["processes"]}
            assert [p["exit_code"] for p in listed.values()] == list(ways.values())
            assert not any(p["running"] for p in listed.values())
            assert all(p["exited_at"] >= p["started_at"] for p in listed.values())

    asyncio.run(main())


def test_a_sent_signal_ends_the_process_or_its_whole_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await box.spawn("one", "sleep", "100")
            await box.client.call("signal", name="one", signal=int(signal.SIGTERM), group=False)
            assert await box.exited("one") == -signal.SIGTERM

            # `set -m` gives the background job a process group of its own, in the same session.
            await box.spawn("many", "bash", "-c", "sleep 100 & set -m; sleep 100 & echo $(jobs -p); wait")
            others = [int(pid) for pid in (await box.lines_until("many", lambda lines: bool(lines)))[0].split()]
            assert len(others) == 2
            await box.client.call("signal", name="many", signal=int(signal.SIGKILL), group=True)
            assert await box.exited("many") == -signal.SIGKILL
            await until(lambda: not any(alive(pid) for pid in others), f"{others} live")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("argv", "fields", "reason", "words"),
    [
        (["no-such-program"], {}, "exec-failed", "no such command in PATH"),
        (["/no/such/program"], {}, "exec-failed", "cannot run /no/such/program: no such command"),
        (["/tmp"], {}, "exec-failed", "it is a folder"),
        (["/etc/passwd"], {}, "exec-failed", "/etc/passwd"),
        (["true"], {"cwd": "/no/such/folder"}, "exec-failed", "cannot enter the folder /no/such/folder"),
        (["true"], {"namespace": {"hosts": "/no/hosts", "nsswitch": None}}, "namespace-failed", "/no/hosts"),
        (["true"], {"name": "../escape"}, "bad-request", "cannot name a process"),
        (["true"], {"name": ""}, "bad-request", "cannot name a process"),
        (["true"], {"log": "relative.log"}, "bad-request", "absolute"),
        ([], {}, "bad-request", "argv"),
        (["true"], {"env": {"A=B": "c"}}, "bad-request", "env"),
        (["a\0b"], {}, "exec-failed", "null byte"),
    ],
)
def test_what_cannot_run_is_refused_in_words(
    tmp_path: Path, argv: list[str], fields: dict[str, object], reason: str, words: str
) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            with pytest.raises(KeeperError) as caught:
                await box.spawn("bad", *argv, **fields)
            assert caught.value.reason == reason
            assert words in str(caught.value)
            assert (await box.client.call("list"))["processes"] == []
            assert not list(box.state.processes.glob("bad*"))
            assert await box.spawn("bad", "true") > 0  # the name is free

    asyncio.run(main())


def test_a_script_says_which_interpreter_is_missing(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/interpreter\n")
    script.chmod(0o755)
    plain = tmp_path / "plain"
    plain.write_text("echo\n")

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            with pytest.raises(KeeperError, match="interpreter that its first line names"):
                await box.spawn("bad", str(script))
            with pytest.raises(KeeperError, match=r"chmod \+x"):
                await box.spawn("bad", str(plain))

    asyncio.run(main())


def test_names_are_one_processs_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            first = await box.spawn("web", "sleep", "100")
            for refused, fields in (("spawn", {}), ("forget", {})):
                with pytest.raises(KeeperError) as caught:
                    if refused == "spawn":
                        await box.spawn("web", "sleep", "100", **fields)
                    else:
                        await box.client.call("forget", name="web")
                assert caught.value.reason == "exists"
                assert str(first) in str(caught.value)
            await box.client.call("signal", name="web", signal=9)
            await box.exited("web")
            for op, more in (("signal", {"signal": 9}), ("signal", {"signal": 9, "group": True})):
                with pytest.raises(KeeperError) as caught:
                    await box.client.call(op, name="web", **more)
                assert caught.value.reason == "unknown"
            second = await box.spawn("web", "true")
            assert await box.exited("web", pid=second) == 0
            await box.client.call("forget", name="web")
            with pytest.raises(KeeperError) as caught:
                await box.client.call("forget", name="web")
            assert caught.value.reason == "unknown"
            assert not list(box.state.processes.glob("web*"))

    asyncio.run(main())


def test_a_child_starts_with_a_clean_slate(tmp_path: Path) -> None:
    code = (
        "import os, resource\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(status['SigBlk'].strip(), os.getsid(0) == os.getpgid(0) == os.getpid(), os.getcwd())\n"
        "print(sorted(os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))\n"
        "print(sorted(os.environ.items()))\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            env = {"ONLY": "this", "LC_CTYPE": "C.UTF-8"}
            pid = await box.python("clean", code, env=env, cwd=str(tmp_path))
            assert await box.exited("clean", pid=pid) == 0
            sigblk, *_ = lines = box.lines("clean")
            assert sigblk == f"0000000000000000 True {tmp_path}"
            assert lines[1] == "['0', '1', '2'] 4"  # the fourth is listdir's own
            assert lines[2] == str(sorted(env.items()))
            import resource

            assert lines[3] == str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            # A shell says which signals it found ignored: none, not even SIGPIPE, which Python ignores.
            [ignored] = await box.run("ignored", "grep", "SigIgn", "/proc/self/status")
            # 32 and 33 are the C library's own, which nobody else can set; make leaves them ignored.
            assert int(ignored.split()[1], 16) & ~(0b11 << 31) == 0

    asyncio.run(main())


def test_what_a_leader_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            script = "(trap '' TERM; echo $BASHPID; sleep 100) & (echo $BASHPID; exec sleep 100) & sleep 0.2; exit 7"
            await box.spawn("leader", "bash", "-c", script)
            assert await box.exited("leader") == 7
            assert (await box.event("exited", "leader"))["left_behind"] is True
            stubborn, polite = (int(pid) for pid in box.lines("leader")[:2])
            await until(lambda: not (alive(stubborn) and alive(polite)), "both live")
            await box.client.call("forget", name="leader")
            await until(lambda: not alive(stubborn) and not alive(polite), "one lives")

    asyncio.run(main())


def test_a_descendant_that_keeps_the_log_open_blocks_nothing_and_is_still_heard(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "heard, tell = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    os.write(tell, b'x')\n"
        "    for i in range(100000):\n"
        "        os.write(1, b'grandchild %d\\n' % i)\n"  # one write: two writers must not share a line
        "        time.sleep(0.01 if i > 10 else 0)\n"
        "os.read(heard, 1)\n"
        "os.write(1, b'leader %d\\n' % os.getpid())\n"
        "os._exit(5)\n"
    )

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await box.python("leader", code)
            assert await box.exited("leader") == 5
            assert any(line.startswith("leader") for line in box.lines("leader"))
            seen = len(box.lines("leader"))
            await box.lines_until("leader", lambda lines: len(lines) > seen + 10)
            # The next one of that name shares the FIFO and the log.
            pid = await box.spawn("leader", "sh", "-c", "echo again")
            assert await box.exited("leader", pid=pid) == 0
            assert "again" in box.lines("leader")

    asyncio.run(main())


def test_orphans_are_reaped(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await box.run("parent", "bash", "-c", "for i in 1 2 3 4 5; do setsid bash -c 'sleep 0.1' & done; exit 0")
            keeper = await box.pid()

            def children() -> list[str]:
                return Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()

            await until(lambda: not children(), "children are left")

    asyncio.run(main())


def test_two_keepers_lease_two_networks(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        async with keeper_box(tmp_path / "a") as one, keeper_box(tmp_path / "b") as two:
            first = (await one.client.call("lease_network", prefer=77))["network"]
            second = (await two.client.call("lease_network", prefer=first))["network"]
            assert first != second
            assert {first, second}.isdisjoint({0, 53, 255})
            assert (await one.client.call("lease_network", prefer=200))["network"] == first  # keeps what it has
            third = (await one.client.call("lease_network", prefer=first, avoid=[first]))["network"]
            assert third not in (first, second)
            await one.kill_keeper()
            assert (await two.client.call("lease_network", prefer=third, avoid=[second]))["network"] == third
            await one.start()

    asyncio.run(main())


def test_nothing_is_kept_of_what_is_forgotten(tmp_path: Path) -> None:
    """Neither descriptors nor files, however the processes ended."""

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            keeper = await box.pid()

            def descriptors() -> int:
                return len(os.listdir(f"/proc/{keeper}/fd"))

            before = descriptors()
            for number in range(20):
                for argv in (["echo", "hi"], ["sh", "-c", "kill -9 $$"], ["no-such-command"]):
                    try:
                        pid = await box.spawn("web", *argv)
                    except KeeperError:
                        continue
                    await box.exited("web", pid=pid)
                    if number % 2:
                        await box.client.call("forget", name="web")
            await until(lambda: descriptors() == before, f"{before} descriptors, now {descriptors()}")
            assert os.listdir(box.state.processes) == [".mark"]

    asyncio.run(main())


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def test_the_keeper_is_small(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            status = status_of(await box.pid())
            rss_kib = int(status.split("VmRSS:")[1].split()[0])
            assert rss_kib < 20_000  # 12 MB on x86-64; asyncio alone would add 10

    asyncio.run(main())


def test_nothing_runs_any_more_after_shutdown(tmp_path: Path) -> None:
    """Also not what escaped from its session; and the keeper waits for what it knows."""

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            code = (
                "import os, time\n"
                "heard, tell = os.pipe()\n"
                "if os.fork(): os.read(heard, 1); os._exit(0)\n"
                "os.setsid(); print(os.getpid()); os.write(tell, b'x'); time.sleep(100)"
            )
            await box.python("escaped", code)
            await box.exited("escaped")
            escaped = int((await box.lines_until("escaped", lambda lines: bool(lines)))[0])
            await box.spawn("web", "sleep", "100")
            await box.client.call("shutdown")
            with pytest.raises(KeeperError) as caught:
                await box.spawn("late", "true")
            assert caught.value.reason == "shutting-down"
            keeper = await box.pid()
            assert alive(escaped)
            with socket.socket(socket.AF_UNIX) as killed_daemons:
                killed_daemons.bind(str(box.state.api_socket))
            await box.client.call("signal", name="web", signal=15)
            await until(lambda: not alive(keeper) and not alive(escaped), "keeper or orphan live")
            assert sorted(os.listdir(box.state.root)) == [".gitignore", "keeper.lock", "logs"]
            assert not box.state.run.exists()

    asyncio.run(main())


def test_a_keeper_needs_nothing_of_the_callers_shell(tmp_path: Path) -> None:
    async def main() -> None:
        daemon = [sys.executable, "-c", "import os, time; print(sorted(os.environ), flush=True); time.sleep(100)"]
        os.environ["SECRET_TOKEN_OF_TEST"] = "x"
        try:
            async with keeper_box(tmp_path, daemon) as box:
                lines = await box.lines_until("daemon", lambda lines: bool(lines))
                assert "PATH" in lines[0]
                assert "SECRET_TOKEN_OF_TEST" not in lines[0]
        finally:
            del os.environ["SECRET_TOKEN_OF_TEST"]

    asyncio.run(main())


def test_a_machine_without_epoll_is_told_and_everything_imports(tmp_path: Path) -> None:
    """As macOS: what only Linux has is taken away before the first import."""
    code = (
        "import os, select, signal, sys\n"
        "for module, names in ((select, ['epoll', 'EPOLLIN', 'EPOLLET', 'EPOLLOUT']), (os, ['pipe2', 'pidfd_open'])):\n"
        "    for name in names: delattr(module, name)\n"
        "sys.platform = 'darwin'\n"
        "from pathlib import Path\n"
        "from shoal.engines.local.keeper import child, clients, launch, linux, server, start, taps\n"
        "from shoal.engines.local import keeper_client, names\n"
        "from shoal.errors import UnsupportedError\n"
        "from shoal.paths import StateFolder\n"
        "try: start.start_keeper(StateFolder.beside(Path(sys.argv[1])), [])\n"
        "except UnsupportedError as error: print(error)\n"
        "print(names.detect()[0])\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == ["running an app needs Linux; use Linux, or a Linux virtual machine", "False"]
    assert os.listdir(tmp_path) == []
