"""Changing what runs, under load: nobody who asks may notice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.plane import ECHO, Plane, plane
from tests.support.port import free_port
from tests.support.prober import prober

pytestmark = pytest.mark.integration


@dataclass
class Running:
    shoal: Plane
    web: int
    """Port."""
    other: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web}"

    def write(self, *, replicas: int = 3, colour: str = "red", run: str = "echo:app", more: str = "") -> None:
        text = f"""
services:
  web: {{run: "{run}", port: {self.web}, replicas: {replicas}, env: {{COLOUR: {colour}}}}}
  other: {{run: "echo:app", port: {self.other}}}
{more}
"""
        (self.shoal.folder / "shoal.yaml").write_text(text)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with plane(tmp_path / "app", files={"echo.py": ECHO}) as shoal:
        made = Running(shoal, free_port(), free_port())
        made.write()
        shoal.up()
        yield made


def test_scaling_down_and_up_loses_nothing(running: Running) -> None:
    shoal = running.shoal
    with prober(running.url) as probe:
        for count in (1, 4):
            shoal.shoal("scale", "web", str(count))
            shoal.wait_for_status(
                lambda status, count=count: (
                    len(status["services"][0]["replicas"])  # type: ignore[misc]
                    == status["services"][0]["ready"]
                    == count
                ),
                f"{count} ready replicas and no other",
            )
    probe.assert_nothing_lost()


def test_a_new_revision_loses_nothing_and_leaves_other_services_alone(running: Running) -> None:
    shoal = running.shoal
    before = shoal.pids()
    with prober(running.url) as probe:
        running.write(colour="blue")
        shoal.up()
        shoal.wait_for_status(
            lambda status: (
                {replica["revision"] for replica in status["services"][0]["replicas"]} == {2}
                and status["services"][0]["ready"] == 3
            ),
            "three replicas of revision 2 and no other",
            within_s=60,
        )
    probe.assert_nothing_lost()
    after = shoal.pids()
    assert not {name for name in before if name.startswith("web")} & after.keys()
    assert after["other-r1"] == before["other-r1"] and after["envoy"] == before["envoy"]
    assert "COLOUR=blue" in shoal.shoal("exec", "web", "--", "env").stdout


def test_new_services_routes_and_edges_disturb_nobody(running: Running) -> None:
    shoal = running.shoal
    before = shoal.pids()
    gateway, third = free_port(), free_port()
    more = f"""
  third: {{run: "echo:app", port: {third}, calls: [web]}}
gateway: {{port: {gateway}, routes: {{/: web}}}}
"""
    with prober(running.url) as probe:
        running.write(more=more)
        shoal.up()
        with prober(f"http://127.0.0.1:{gateway}", before=1, after=20) as through_gateway:
            pass
        running.write()
        shoal.up()
        shoal.wait_for_status(lambda status: len(status["services"]) == 2, "two services again")
    probe.assert_nothing_lost()
    through_gateway.assert_nothing_lost()
    assert shoal.pids() == before


def test_a_revision_that_does_not_start_leaves_the_old_one_serving(running: Running) -> None:
    shoal = running.shoal
    (shoal.folder / "broken.py").write_text("raise RuntimeError('not today')\n")
    with prober(running.url) as probe:
        running.write(run="broken:app")
        done = shoal.shoal("up", "-d", check=False)
        assert done.returncode == 5
        assert "not today" in done.stdout + done.stderr
        running.write()
        shoal.up()
    probe.assert_nothing_lost()
