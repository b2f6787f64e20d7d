"""The tutorial, as a reader does it: its files are written, its commands run, its outputs compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import page
from tests.support.plane import plane
from tests.support.port import free_port

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "from-one-service-to-three.md"
PORTS = re.compile(r"\b(300[012]|8080)\b")


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    ports: dict[str, str] = {}
    text = PORTS.sub(lambda match: ports.setdefault(match[0], str(free_port())), PAGE.read_text())
    ran = []
    with plane(tmp_path / "harbour", files={}) as shoal:
        for language, name, content in page.steps(text):
            if language != "console":
                (shoal.folder / name).write_text(content)
                continue
            for command, wanted in page.commands(content):
                printed = page.run(shoal, command)
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
