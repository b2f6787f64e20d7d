"""Logs of real processes: what they write is in the file, and nobody is kept waiting."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.keeper_box import keeper_box

pytestmark = pytest.mark.integration


def test_all_that_was_written_is_in_the_file_before_the_exit_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            for round_ in range(10):
                lines = await box.run(f"p{round_}", "sh", "-c", "seq 1 8000; echo error >&2; printf tail")
                assert lines == [*(str(number) for number in range(1, 8001)), "error", "tail"]

    asyncio.run(main())


def test_an_unfinished_line_appears_after_a_second_and_a_slow_one_is_whole(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "for part in (b'a', b'b', b'c\\n'): os.write(1, part); time.sleep(0.2)\n"
        "os.write(1, b'name? ')\n"
        "time.sleep(100)\n"
    )

    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await box.python("slow", code)
            assert await box.lines_until("slow", lambda lines: len(lines) == 2) == ["abc", "name? "]

    asyncio.run(main())


def test_a_process_that_writes_without_end_keeps_no_other_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            for number in range(3):
                await box.spawn(f"chatty{number}", "yes", "x" * 100)
            await box.lines_until("chatty2", lambda lines: len(lines) > 1000)
            began = time.monotonic()
            for number in range(20):
                assert await box.run(f"quiet{number}", "echo", "here") == ["here"]
            assert time.monotonic() - began < 20
            for number in range(3):
                await box.client.call("signal", name=f"chatty{number}", signal=int(signal.SIGKILL))
                assert await box.exited(f"chatty{number}") == -9
                assert box.log_path(f"chatty{number}").stat().st_size <= 10 << 20

    asyncio.run(main())


def test_a_long_log_is_rotated(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            lines = await box.run("long", "seq", "1", "500000")
            assert lines[-1] == "500000"
            assert lines == [str(number) for number in range(int(lines[0]), 500_001)]
            sizes = [path.stat().st_size for path in sorted(box.state.logs.glob("long.log*"))]
            assert len(sizes) == 2
            assert max(sizes) <= 10 << 20

    asyncio.run(main())


def test_a_process_goes_on_when_the_disk_is_full(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            # Every write to /dev/full finds no space left.
            pid = await box.spawn("full", "sh", "-c", "seq 1 100000; exit 3", log="/dev/full")
            assert await box.exited("full", pid=pid) == 3
            assert any("dropping log lines of full: No space left" in line for line in box.lines("keeper"))
            pid = await box.spawn("full", "echo", "back")
            assert await box.exited("full", pid=pid) == 0
            assert box.lines("full") == ["back"]

    asyncio.run(main())


def test_a_process_may_close_its_output(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await box.spawn("closed", "sh", "-c", "echo last; exec >/dev/null 2>&1; sleep 0.3; exit 9")
            assert await box.exited("closed") == 9
            assert box.lines("closed") == ["last"]
            pid = await box.spawn("closed", "echo", "again")
            assert await box.exited("closed", pid=pid) == 0
            assert box.lines("closed") == ["last", "again"]

    asyncio.run(main())


def test_a_process_may_open_its_output_again_by_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            assert await box.run("again", "sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr") == [
                "out",
                "err",
            ]

    asyncio.run(main())


def test_the_idle_keeper_sleeps(tmp_path: Path) -> None:
    async def main() -> None:
        async with keeper_box(tmp_path) as box:
            await box.spawn("web", "sh", "-c", "echo up; printf 'no end of line'; exec sleep 100")
            await box.lines_until("web", lambda lines: len(lines) == 2)
            keeper = await box.pid()

            def ticks() -> int:
                with open(f"/proc/{keeper}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
                return int(fields[11]) + int(fields[12])

            before = ticks()
            await asyncio.sleep(1)
            assert (ticks() - before) / os.sysconf("SC_CLK_TCK") < 0.1  # a loop that spins takes a whole second

    asyncio.run(main())
