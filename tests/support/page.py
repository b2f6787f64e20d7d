"""A page of the docs as its reader follows it: files that are written and changed, commands, what they print."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from tests.support.plane import Plane


def steps(text: str) -> list[tuple[str, str, str]]:
    """(language, file name or empty, content) of each block, in order. Commands are those of `console`."""
    return re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(content: str) -> list[tuple[str, str]]:
    """(command, what it prints); empty where the page does not say."""
    return [(part.split("\n", 1)[0], part.split("\n", 1)[1]) for part in content.split("$ ")[1:]]


def run(shoal: Plane, command: str) -> str:
    """What it prints. AssertionError: it fails."""
    if command.startswith("shoal "):
        done = shoal.shoal(*command.split()[1:])
        if " up" in command:
            shoal.note_shared_memory()
        return done.stdout
    ready = command.replace("curl ", "curl --noproxy '*' --max-time 10 ")
    ready = ready.replace("| shoal ", f"| {shlex.join(shoal.command)} ")
    done = subprocess.run(
        ["sh", "-c", ready], cwd=shoal.folder, env=shoal.env(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def change(path: Path, difference: str) -> None:
    """Applies a block of `diff`: lines with ` `, `-` and `+`; `@@` parts its places. AssertionError: such a place is
    not there, or more than once."""
    text = path.read_text()
    for place in re.split(r"^@@.*\n", difference, flags=re.MULTILINE):
        lines = [line or " " for line in place.splitlines()]
        before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"{text.count(before)} times in {path.name}:\n{before}"
        text = text.replace(before, after)
    path.write_text(text)
