"""The keeper is killed, and nothing else notices; the daemon is killed, and comes back alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.engines.local.keeper.start import start_keeper
from shoal.errors import ConflictError, EngineError, UnsupportedError
from shoal.paths import StateFolder
from tests.integration.keeper_box import Box, alive, keeper_box, until

pytestmark = pytest.mark.integration

CHATTY = """
import os, time
for number in range(400_000):
    os.write(1, b"line %d %s\\n" % (number, b"x" * (number % 200)))
    time.sleep(0.0005)
"""
DAEMON = [sys.executable, "-c", "import os, time; print('daemon', os.getpid(), flush=True); time.sleep(1000)"]


def numbers(lines: list[str]) -> list[int]:
    """Of the chatty child's lines, each checked to be whole."""
    found = []
    for line in lines:
        word, number, *rest = line.split(" ")
        assert (word, rest) == ("line", ["x" * (int(number) % 200)]), f"torn: {line!r}"
        found.append(int(number))
    return found


async def written(box: Box, name: str, more: int) -> None:
    """Waits until the log has grown by so many lines."""
    before = len(box.lines(name))
    await box.lines_until(name, lambda lines: len(lines) >= before + more)


def test_a_killed_keeper_loses_no_line_and_no_process(tmp_path: Path) -> None:
    """Ten times in a row, at moments that the child's pace makes random."""

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            pid = await box.python("chatty", CHATTY)
            for _ in range(10):
                await written(box, "chatty", 50)
                await box.kill_keeper()
                await box.start()
                assert box.found["chatty"]["pid"] == pid
                assert box.found["chatty"]["running"]
                assert box.found["chatty"]["tag"] == {"test": "chatty"}
            await written(box, "chatty", 50)
            await box.client.call("signal", name="chatty", signal=9)
            await box.exited("chatty", pid=pid)
            found = numbers(box.lines("chatty"))
            assert found == list(range(len(found)))
            assert len(found) > 500

    asyncio.run(main())


def test_a_keeper_killed_while_it_moves_lines_loses_and_repeats_none(tmp_path: Path) -> None:
    """As fast as the child can write: the kill comes between two steps of the move."""
    code = CHATTY.replace("time.sleep(0.0005)", "pass")

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            pid = await box.python("chatty", code)
            kills = 0
            while kills < 15 and alive(pid):
                await asyncio.sleep(0.003 * kills)
                await box.kill_keeper()
                await box.start()
                kills += 1
            await box.client.call("signal", name="chatty", signal=9)
            await until(lambda: not alive(pid))
            await until(lambda: any(e["event"] == "exited" for e in box.seen) or not box.found["chatty"]["running"])
            lines = box.lines("chatty")
            found = numbers(lines)
            # What was before the last 10 to 20 MB was rotated away.
            assert found == list(range(found[0], found[0] + len(found)))

    asyncio.run(main())


def test_a_child_blocks_on_a_full_fifo_and_lives_on(tmp_path: Path) -> None:
    code = "import os\nfor i in range(20_000): os.write(1, b'%05d\\n' % i)\nprint('done', flush=True)"

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            keeper = await box.pid()
            os.kill(keeper, signal.SIGSTOP)
            os.kill(keeper, signal.SIGCONT)
            pid = await box.python("full", "import os,time\nos.write(1, b'up\\n')\ntime.sleep(0.3)\n" + code)
            await box.lines_until("full", lambda lines: bool(lines))
            await box.kill_keeper()
            await until(lambda: "pipe" in Path(f"/proc/{pid}/wchan").read_text() or not alive(pid), "it does not block")
            assert alive(pid)
            await box.start()
            assert box.found["full"]["pid"] == pid
            lines = await box.lines_until("full", lambda lines: lines[-1] == "done")
            assert lines == ["up", *(f"{i:05d}" for i in range(20_000)), "done"]

    asyncio.run(main())


def test_what_ended_unwatched_has_no_exit_code_but_what_the_kernel_still_knows(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            ended = await box.spawn("ended", "sleep", "100")
            before = await box.spawn("before", "sh", "-c", "exit 4")
            await box.exited("before")
            await box.kill_keeper()
            os.kill(ended, signal.SIGKILL)
            await until(lambda: not alive(ended))
            await box.start()
            assert box.found["ended"]["running"] is False
            assert box.found["ended"]["exit_code"] in (None, -9)  # whether init has reaped it yet
            assert box.found["ended"]["exited_at"] is not None
            assert (box.found["before"]["pid"], box.found["before"]["exit_code"]) == (before, 4)

    asyncio.run(main())


def test_an_adopted_process_can_be_signalled_and_its_end_is_seen(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            first = await box.spawn("first", "sleep", "100")
            go = tmp_path / "go"
            await box.spawn("second", "sh", "-c", f"while [ ! -e '{go}' ]; do sleep 0.02; done; exit 6")
            await box.kill_keeper()
            await box.start()
            await box.client.call("signal", name="first", signal=15, group=True)
            assert await box.exited("first", pid=first) == -15
            go.touch()
            assert await box.exited("second") == 6
            assert await box.spawn("first", "sleep", "100") != first

    asyncio.run(main())


def test_what_an_adopted_leader_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            leader = await box.spawn("leader", "bash", "-c", "sleep 100 & echo $!; trap '' TERM; wait")
            (worker,) = (int(line) for line in await box.lines_until("leader", lambda lines: bool(lines)))
            await box.kill_keeper()
            await box.start()
            await box.client.call("signal", name="leader", signal=9)
            assert await box.exited("leader", pid=leader) == -9
            assert (await box.event("exited", "leader"))["left_behind"] is True
            await until(lambda: not alive(worker), "the worker lives")

    asyncio.run(main())


def test_a_stopped_keeper_is_told_from_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.engines.local.keeper.start.START_S_MAX", 1.0)

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            keeper = await box.pid()
            os.kill(keeper, signal.SIGSTOP)
            try:
                with pytest.raises(ConflictError, match=f"does not answer .* pid {keeper} is the keeper of"):
                    await asyncio.to_thread(start_keeper, box.state, [])
            finally:
                os.kill(keeper, signal.SIGCONT)

    asyncio.run(main())


def test_another_process_with_the_pid_of_ours_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            ours = await box.spawn("ours", "sleep", "100")
            await box.kill_keeper()
            record = box.state.processes / "ours.json"
            os.kill(ours, signal.SIGKILL)
            await asyncio.sleep(0.02)  # start times are counted in hundredths of a second
            stranger = subprocess.Popen(["sleep", "100"])  # noqa: ASYNC220 - takes no time
            try:
                record.write_text(record.read_text().replace(f'"pid": {ours}', f'"pid": {stranger.pid}'))
                await box.start()
                assert box.found["ours"]["running"] is False
                with pytest.raises(EngineError):
                    await box.client.call("signal", name="ours", signal=9)
                await box.client.call("forget", name="ours")
                assert stranger.poll() is None
            finally:
                stranger.kill()
                stranger.wait()

    asyncio.run(main())


def test_a_torn_registry_file_is_told_and_ignored(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            pid = await box.spawn("web", "sleep", "100")
            await box.kill_keeper()
            (box.state.processes / "torn.json").write_text('{"name": "torn"')
            (box.state.processes / "empty.json").write_text("")
            (box.state.processes / "other.json").write_text('{"name": "../x"}')
            await box.start()
            assert list(box.found) == ["web"]
            assert box.found["web"]["pid"] == pid
            assert sum("is no record of a process" in line for line in box.lines("keeper")) == 3
            # And what a keeper leaves that is killed while it writes.
            (box.state.processes / "half.json.tmp").write_text("{")
            os.mkfifo(box.state.processes / "half.fifo")
            await box.kill_keeper()
            await box.start()
            assert not list(box.state.processes.glob("half*"))

    asyncio.run(main())


def test_sigterm_ends_the_keeper_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path, DAEMON) as box:
            pid = await box.spawn("web", "sleep", "100")
            daemon = (await box.event("spawned", "daemon"))["pid"] if not box.found else box.found["daemon"]["pid"]
            keeper = await box.pid()
            await box.kill_keeper(signal.SIGTERM)
            await until(lambda: not alive(keeper))
            assert not box.state.keeper_socket.exists()
            assert alive(pid)
            assert alive(daemon)
            await box.start()
            assert box.found["web"]["pid"] == pid
            assert box.found["daemon"]["pid"] == daemon  # adopted, not started twice

    asyncio.run(main())


def test_the_daemon_comes_back_and_only_the_daemon(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path, DAEMON) as box:
            await box.lines_until("daemon", lambda lines: bool(lines))
            await box.spawn("web", "sleep", "100")
            await box.client.call("signal", name="web", signal=9)
            await box.exited("web")
            pids = [(await box.client.call("list"))["processes"][0]["pid"]]
            for _ in range(3):
                await box.client.call("signal", name="daemon", signal=9)
                assert await box.exited("daemon", pid=pids[-1]) == -9
                await until(lambda: any(e["event"] == "spawned" and e["pid"] not in pids for e in box.seen[-1:]))
                pids.append(box.seen[-1]["pid"])
            spawned = [e for e in box.seen if e["event"] == "spawned" and e["name"] == "daemon"][-3:]
            ended = [e for e in box.seen if e["event"] == "exited" and e["name"] == "daemon"]
            waits = [s["at"] - e["at"] for s, e in zip(spawned, ended, strict=True)]
            assert waits[0] >= 0.09
            assert waits[1] >= 0.19
            assert waits[2] >= 0.39
            assert [e["name"] for e in box.seen if e["event"] == "spawned"].count("web") == 1
            await box.client.call("shutdown")
            await box.client.call("signal", name="daemon", signal=15)
            assert box._reader is not None
            await box._reader  # the keeper ends, and starts it no more
            assert not alive(pids[-1])

    asyncio.run(main())


def test_a_daemon_that_cannot_run_is_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path, ["/no/daemon"]) as box:
            await box.lines_until("keeper", lambda lines: sum("no such command" in line for line in lines) >= 3)

    asyncio.run(main())


def test_of_racing_starters_one_keeper_comes(tmp_path: Path) -> None:
    state = StateFolder.beside(tmp_path)

    async def main() -> None:
        starters = (asyncio.to_thread(start_keeper, state, DAEMON) for _ in range(8))
        results = await asyncio.gather(*starters, return_exceptions=True)
        async with keeper_box(tmp_path, DAEMON) as box:
            assert results == [None] * 8
            await box.lines_until("daemon", lambda lines: bool(lines))
            starts = [line for line in box.lines("keeper") if "starts" in line]
            assert len(starts) == 1
            assert len(box.lines("daemon")) == 1

    asyncio.run(main())


def test_a_socket_that_a_cleaner_took_away_is_made_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            keeper = await box.pid()
            box.state.keeper_socket.unlink()
            box.state.run.rmdir()
            await box.start()  # finds the lock held, and waits
            assert await box.pid() == keeper

    asyncio.run(main())


def test_folders_that_are_not_ours_alone_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "r"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    state = StateFolder.beside(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (runtime / "shoal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConflictError, match="is a link"):
        start_keeper(state, [])
    (runtime / "shoal").unlink()
    (runtime / "shoal").write_text("")
    with pytest.raises(ConflictError, match="is no folder"):
        start_keeper(state, [])
    (runtime / "shoal").unlink()
    (runtime / "shoal").mkdir()
    if os.geteuid() == 0:
        os.chown(runtime / "shoal", 65534, 65534)
        with pytest.raises(ConflictError, match="belongs to user id 65534"):
            start_keeper(state, [])
    with pytest.raises(EngineError, match="cannot make the folder"):
        start_keeper(StateFolder(Path("/proc/no/.shoal")), [])
    deep = tmp_path / ("n" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(UnsupportedError, match="107 bytes"):
        start_keeper(state, [])
    assert not state.run.exists()


def test_a_keeper_whose_sockets_are_elsewhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.engines.local.keeper.start.START_S_MAX", 1.0)

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            run = box.state.run
            with monkeypatch.context() as patch:
                (tmp_path / "r").mkdir()
                patch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
                with pytest.raises(ConflictError, match=f"pid {await box.pid()} is the keeper of .* sockets in {run}"):
                    await asyncio.to_thread(start_keeper, box.state, [])

    asyncio.run(main())
