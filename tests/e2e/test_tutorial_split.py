"""The tutorial that splits an application, as a reader does it; its callers ask on during each change."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import page
from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.prober import Kind, prober

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BEFORE = ROOT / "examples" / "one-application"
PORTS = re.compile(r"\b(300[012]|8080)\b")


class Reader:
    """Of the page, in a folder of their own."""

    def __init__(self, shoal: Plane) -> None:
        self.shoal = shoal
        self.ports: dict[str, str] = {}
        self.ran: list[str] = []

    def ported(self, text: str) -> str:
        return PORTS.sub(lambda match: self.ports.setdefault(match[0], str(free_port())), text)

    def run(self, command: str, wanted: str) -> None:
        shoal, again = self.shoal, command in self.ran
        self.ran.append(command)
        if command == "shoal up -d" and again:
            url = f"http://127.0.0.1:{self.ports['8080']}"
            with prober(url, get="/products", kinds=[Kind.GET], rate=30.0, before=3, after=3) as probe:
                page.run(shoal, command)
            probe.assert_nothing_lost()
        elif wanted:
            # What an event or `shoal scale` brings about is there a moment later.
            shoal.eventually(lambda: page.run(shoal, command).strip() == wanted.strip(), f"{command}\n{wanted}")
        else:
            page.run(shoal, command)
            if len(self.ran) == 1 and shoal.status()["names"] != "names":
                pytest.skip(f"names do not work here: {shoal.status()['names_reason']}")
            if "scale" in command:
                name, count = command.split()[2:]
                shoal.eventually(lambda: len(self.ready(name)) == int(count), command)

    def ready(self, service: str) -> list[str]:
        return [replica["id"] for replica in self.shoal.replicas(service) if replica["state"] == "ready"]

    def tables(self, service: str) -> set[str]:
        with closing(sqlite3.connect(self.shoal.root / "data" / service / f"{service}.sqlite3")) as database:
            return {name for (name,) in database.execute("select name from sqlite_schema where type = 'table'")}


def test_the_application_is_split_as_the_page_says_and_its_callers_notice_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "harbour"
    shutil.copytree(BEFORE, folder, ignore=shutil.ignore_patterns(".shoal", "__pycache__"))
    with plane(folder) as shoal:
        reader = Reader(shoal)
        app = folder / "shoal.yaml"
        app.write_text(reader.ported(app.read_text()))
        for language, name, content in page.steps((ROOT / "docs" / "tutorial" / "split-an-application.md").read_text()):
            text = reader.ported(content)
            if language == "console":
                for command, wanted in page.commands(text):
                    reader.run(command, wanted)
            elif language == "diff":
                page.change(folder / name, text)
            elif name:
                (folder / name).write_text(text)
            else:
                assert any(content in path.read_text() for path in BEFORE.rglob("*") if path.is_file()), content
        assert len(reader.ran) > 30
        assert (folder / "shop" / "carts.py").read_text() == (BEFORE / "shop" / "carts.py").read_text()
        own = {"shop": {"items", "products"}, "product-service": {"products"}, "user-service": {"users"}}
        found = {service: {name for name in reader.tables(service) if "_" not in name} for service in own}
        assert found == own
