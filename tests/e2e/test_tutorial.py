"""The tutorial, as a reader does it: its files are written, its commands run, its outputs compared."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.plane import Plane, plane
from tests.support.port import free_port

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "from-one-service-to-three.md"
PORTS = re.compile(r"\b(300[012]|8080)\b")


def steps(text: str) -> list[tuple[str, str]]:
    """(file name, or `$` for commands; content), in order."""
    found = re.findall(r"^```(?:console|\w+ (\S+))\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(name or "$", content) for name, content in found]


def commands(content: str) -> list[tuple[str, str]]:
    """(command, what it prints); empty where the page does not say."""
    return [(part.split("\n", 1)[0], part.split("\n", 1)[1]) for part in content.split("$ ")[1:]]


def run(shoal: Plane, command: str) -> str:
    if command.startswith("shoal "):
        done = shoal.shoal(*command.split()[1:])
        if " up" in command:
            shoal.note_shared_memory()
        return done.stdout
    done = subprocess.run(
        ["sh", "-c", command.replace("curl ", "curl --noproxy '*' --max-time 10 ")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    ports: dict[str, str] = {}
    text = PORTS.sub(lambda match: ports.setdefault(match[0], str(free_port())), PAGE.read_text())
    ran = []
    with plane(tmp_path / "harbour", files={}) as shoal:
        for name, content in steps(text):
            if name != "$":
                (shoal.folder / name).write_text(content)
                continue
            for command, wanted in commands(content):
                printed = run(shoal, command)
                ran.append(command.split()[:2])
                if wanted:
                    assert printed == wanted, command
                elif "exec" in command and shoal.status()["names"] == "names":
                    problem = json.loads(printed)
                    assert problem["status"] == 403 and "calls: [carts]" in json.dumps(problem)
                elif "scale" in command:
                    shoal.wait_for_status(lambda status: status["services"][0]["ready"] == 3, "three products")
                elif "down" in command:
                    shoal.assert_nothing_left()
    assert len(ran) >= 11, ran
