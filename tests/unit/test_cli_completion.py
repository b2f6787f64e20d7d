"""Completion, and what pipes and NO_COLOR see of every command."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.cli.completion import SHELLS
from shoal.cli.main import COMMANDS
from shoal.cli.names import service_names
from tests.unit.test_cli_commands import document, out

FILE = "services:\n  web: {command: 'sleep 9', port: 3000, calls: [carts]}\n  carts: {command: x, port: 3001}\n"
SHOAL = [sys.executable, "-m", "shoal"]


def completed(folder: Path, words: str, *, position: int | None = None) -> list[str]:
    """What bash is told for this command line."""
    count = len(words.split()) if position is None else position
    environment = {"_SHOAL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = subprocess.run(
        SHOAL, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=30
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "_SHOAL_COMPLETE" in out(capsys, "completion", shell)
    assert document(capsys, "completion", shell)["shell"] == shell


def test_the_script_for_bash_is_one_that_bash_takes(capsys: pytest.CaptureFixture[str]) -> None:
    script = out(capsys, "completion", "bash") + "\ncomplete -p shoal"
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert "_shoal_completion" in done.stdout


def test_commands_options_and_services_are_completed(tmp_path: Path) -> None:
    (tmp_path / "shoal.yaml").write_text(FILE)
    assert set(completed(tmp_path, "shoal resta", position=1)) == {"restart"}
    assert set(completed(tmp_path, "shoal logs ")) == {"web", "carts"}
    assert completed(tmp_path, "shoal scale w", position=2) == ["web"]
    assert "--follow" in completed(tmp_path, "shoal logs --f", position=2)
    assert completed(tmp_path.parent, f"shoal restart -f {tmp_path} c", position=4) == ["carts"]


@pytest.mark.parametrize("text", ["", "services: [", "services: 7", "- a", "services: {1: {}, web: {}}", "\x00", "é"])
def test_a_file_that_is_not_one_completes_to_what_can_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "shoal.yaml").write_text(text, "latin-1")
    assert service_names(tmp_path) == (["web"] if "web" in text else [])


def test_without_a_file_nothing_is_completed(tmp_path: Path) -> None:
    assert service_names(tmp_path) == [] == service_names(tmp_path / "no")


def test_completing_loads_nothing_of_the_plane(tmp_path: Path) -> None:
    (tmp_path / "shoal.yaml").write_text(FILE)
    heavy = "pydantic grpc google starlette rich asyncio uvloop shoal.model shoal.client"
    script = (
        "import sys, atexit; from shoal.cli.main import main; "
        f"atexit.register(lambda: print(set({heavy.split()}) & set(sys.modules), file=sys.stderr)); main()"
    )
    environment = {"_SHOAL_COMPLETE": "bash_complete", "COMP_WORDS": "shoal logs ", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True,
        check=False, timeout=30,
    )  # fmt: skip
    assert "web" in done.stdout
    assert done.stderr.splitlines()[-1] == "set()"


LINES = [["--help"], *([name, "--help"] for name in COMMANDS), ["plan"], ["graph"], ["routes"], ["check"], ["nothing"]]


def test_nothing_is_coloured_in_a_pipe_or_where_no_color_is_set(tmp_path: Path) -> None:
    (tmp_path / "shoal.yaml").write_text(FILE)
    script = f"from shoal.cli.main import run\nfor line in {LINES!r}: run(line)"
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    piped = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=60
    )
    assert b"\x1b" not in piped.stdout + piped.stderr and b"SERVICE" in piped.stdout
    assert b"\x1b" in on_a_terminal(script, tmp_path, environment)
    plain = on_a_terminal(script, tmp_path, environment | {"NO_COLOR": "1"})
    assert b"\x1b" not in plain and b"SERVICE" in plain


def on_a_terminal(script: str, folder: Path, environment: dict[str, str]) -> bytes:
    """What a person would see."""
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, env=environment, stdout=terminal, stderr=terminal, stdin=terminal
    ) as process:
        os.close(terminal)
        seen = b""
        while True:
            try:
                block = os.read(main, 65536)
            except OSError:  # the last one has closed it
                break
            if not block:
                break
            seen += block
        os.close(main)
        assert process.wait(30) == 0
    return seen


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "shoal.yaml").write_text(FILE)
    line = f"{sys.executable} -m shoal schema | head -c 1"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == ("{", "")
