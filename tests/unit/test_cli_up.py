"""`up` and `down` against scripted statuses, on a clock that only moves when they wait."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shoal.cli import down, stop, up, waiting
from shoal.cli import main as entry
from shoal.errors import ConflictError, NotRunningError
from shoal.model.status import AppStatus, Health
from shoal.ports import JournalEntry
from tests.unit.test_cli_commands import ENTRY, FakeClient, plane  # noqa: F401  a fixture
from tests.unit.test_cli_views import CRASHING, USERS, app, replica, service

EMPTY = app(health=Health.STOPPED, generation=0)
STARTING = app(
    service("web", replica("web", 1, "starting", reason="installing 3 packages"), health=Health.STARTING),
    health=Health.STARTING,
)
READY = app(service("web", replica("web", 1)))
LOOPING = app(USERS, CRASHING, health=Health.FAILING)

Script = Callable[..., None]


class Clock:
    """`time` for the commands: sleeping moves it, and lets the test act."""

    def __init__(self) -> None:
        self.now = 100.0
        self.wakes: list[Callable[[], None]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.wakes:
            self.wakes.pop(0)()


class Plane:
    """What `up` and `down` do to the plane, written down."""

    def __init__(self) -> None:
        self.runs = False
        self.leftovers = False
        self.gone_after = 0
        """How often somebody has to look."""

    def ensure(self, state: object) -> bool:
        FakeClient.asked.append(("ensure",))
        started, self.runs = not self.runs, True
        return started


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (up, down, stop, waiting):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, plane: Path, clock: Clock) -> Plane:  # noqa: F811
    made = Plane()

    class Departure:
        def __init__(self, state: object) -> None: ...
        def __enter__(self) -> Departure:
            return self

        def __exit__(self, *_: object) -> None: ...
        def done(self) -> bool:
            made.gone_after -= 1
            made.runs = made.gone_after >= 0
            return not made.runs

        def wait(self, timeout_s: float) -> bool:
            made.runs = False
            return True

    for module in (up, down):
        monkeypatch.setattr(module, "ensure_plane", made.ensure)
        monkeypatch.setattr(module, "plane_runs", lambda state: made.runs)
    monkeypatch.setattr(waiting, "plane_runs", lambda state: made.runs)
    monkeypatch.setattr(down, "has_leftovers", lambda state: made.leftovers)
    monkeypatch.setattr(up, "Departure", Departure)
    monkeypatch.setattr(stop, "Departure", Departure)
    return made


def asked() -> list[Any]:
    return [call[0] for call in FakeClient.asked if call[0] != "connect"]


def test_up_returns_when_all_is_ready(world: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    FakeClient.statuses[:] = [EMPTY, STARTING, STARTING, READY]
    assert entry.run(["up", "-d"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "web  r1 starting: installing 3 packages  (0.0 s)",
        "web  r1 ready  (0.1 s)",
        "shop is up: 1 service, 1 replica ready (0.1 s)",
        "  gateway  http://localhost:8080",
        "    /users           user-service",
        "    shop.localhost/  carts",
        "  web      http://localhost:3000",
        "it runs on: shoal status, shoal logs SERVICE -f, shoal down",
    ]
    assert asked() == ["ensure", "deploy"]
    assert ("deploy", "shop", ["web"]) in FakeClient.asked


def test_up_as_json_is_the_status(world: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    FakeClient.statuses[:] = [EMPTY, READY]
    assert entry.run(["up", "-d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["health"] == "ready"


def test_a_wrong_file_starts_nothing(
    world: Plane, plane: Path, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    (plane / "shoal.yaml").write_text("services: {web: {prot: 1}}\n")
    assert entry.run(["up", "-d"]) == 2
    assert "did you mean 'port'?" in capsys.readouterr().err
    assert asked() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "80"], "--port is for a single application"),
        (["hello:app", "-f", "."], "exclude each other"),
        (["/tmp"], "'/tmp' is a path"),
        (["hello"], "'hello' does not say which object"),
        (["--port", "0"], "invalid value for '--port'"),
    ],
)
def test_a_wrong_command_line_starts_nothing(
    world: Plane, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert entry.run(["up", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert asked() == []


def test_a_first_up_that_fails_in_the_foreground_leaves_nothing(
    world: Plane, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeClient.statuses[:] = [EMPTY, LOOPING]
    assert entry.run(["up"]) == 5
    captured = capsys.readouterr()
    assert captured.err.startswith("shoal: carts is failing\n  -> more: shoal logs carts, shoal explain carts\n")
    assert "    | ModuleNotFoundError: No module named 'flask'\n" in captured.err
    assert captured.err.endswith("taking it down again\n")
    assert asked() == ["ensure", "deploy", "down"]


def test_one_that_fails_detached_runs_on(world: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    FakeClient.statuses[:] = [EMPTY, LOOPING]
    assert entry.run(["up", "-d", "--json"]) == 5
    captured = capsys.readouterr()
    assert captured.err.endswith("it goes on trying: shoal status; shoal down ends it\n")
    assert json.loads(captured.out)["code"] == "not-ready"
    assert "down" not in asked()


def test_what_was_serving_before_a_failed_up_goes_on(world: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    world.runs = True
    FakeClient.statuses[:] = [READY, LOOPING]
    assert entry.run(["up"]) == 5
    assert "what was serving before goes on" in capsys.readouterr().err
    assert "down" not in asked()


def test_the_deadline_is_kept(world: Plane, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    FakeClient.statuses[:] = [EMPTY, STARTING]
    assert entry.run(["up", "-d", "--timeout", "30"]) == 5
    assert 130 < clock.now < 131
    assert "shoal: web is not ready after 30 s" in capsys.readouterr().err


def test_a_taken_port_is_told_and_nothing_followed(
    world: Plane, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FakeClient, document: object) -> None:
        raise ConflictError("service 'web' wants port 3000, which pid 412 (nginx) holds", way_out="free it")

    monkeypatch.setattr(FakeClient, "deploy", refuse)
    FakeClient.statuses[:] = [EMPTY]
    assert entry.run(["up"]) == 3
    assert "pid 412 (nginx)" in capsys.readouterr().err


def test_up_waits_for_a_down_that_is_under_way(world: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    world.runs = True
    FakeClient.statuses[:] = [app(USERS, health=Health.STOPPING), EMPTY, READY]
    assert entry.run(["up", "-d"]) == 0
    assert "shop is going down; waiting for that first" in capsys.readouterr().err
    assert asked() == ["ensure", "ensure", "deploy"]


def follow(monkeypatch: pytest.MonkeyPatch, *script: JournalEntry | BaseException) -> None:
    """What the event stream gives, one after the other, however often it is opened."""
    left = list(script)

    def events(self: FakeClient, after: int = 0, **query: Any) -> Iterator[JournalEntry]:
        FakeClient.asked.append(("events", after))
        while left:
            item = left.pop(0)
            if isinstance(item, BaseException):
                raise item
            yield item

    monkeypatch.setattr(FakeClient, "events", events)


def test_ctrl_c_in_the_foreground_takes_the_app_down(
    world: Plane, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeClient.statuses[:] = [EMPTY, READY]
    follow(monkeypatch, ENTRY, KeyboardInterrupt())
    world.gone_after = 3
    assert entry.run(["up"]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("  app  deploy 1\n")
    assert captured.err.endswith("stopping shop (Ctrl-C again hurries)\nshop is down\n")
    assert asked() == ["ensure", "deploy", "events", "down"]


def test_a_second_ctrl_c_hurries_and_a_third_leaves_it_to_the_background(
    world: Plane, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    FakeClient.statuses[:] = [EMPTY, READY]
    follow(monkeypatch, KeyboardInterrupt())
    world.gone_after = 100
    clock.wakes = [interrupt, interrupt]
    assert entry.run(["up"]) == 130
    assert [call for call in FakeClient.asked if call[0] == "down"] == [("down",), ("down", "now")]
    assert capsys.readouterr().err.endswith("shop goes on stopping: shoal status\n")


def test_sigterm_is_ctrl_c_and_its_handler_is_given_back(world: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def terminate(self: FakeClient, after: int = 0, **query: Any) -> Iterator[JournalEntry]:
        signal.raise_signal(signal.SIGTERM)
        yield ENTRY

    before = signal.getsignal(signal.SIGTERM)
    FakeClient.statuses[:] = [EMPTY, READY]
    monkeypatch.setattr(FakeClient, "events", terminate)
    assert entry.run(["up"]) == 0
    assert asked()[-1] == "down"
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_while_starting_detached_leaves_it_starting(
    world: Plane, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    clock.wakes = [interrupt]
    FakeClient.statuses[:] = [EMPTY, STARTING]
    assert entry.run(["up", "-d"]) == 130
    assert "it goes on starting" in capsys.readouterr().err
    assert "down" not in asked()


def test_a_restarted_daemon_is_followed_on(
    world: Plane, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeClient.statuses[:] = [EMPTY, READY]
    follow(monkeypatch, ENTRY, NotRunningError("cut off"), replace(ENTRY, sequence=8), KeyboardInterrupt())
    assert entry.run(["up"]) == 0
    assert [call for call in FakeClient.asked if call[0] == "events"] == [("events", 12), ("events", 7)]


def test_a_down_from_elsewhere_ends_up_too(
    world: Plane, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeClient.statuses[:] = [EMPTY, READY]
    follow(monkeypatch, replace(ENTRY, kind="DownRequested", message="goes down"))
    assert entry.run(["up"]) == 0
    assert capsys.readouterr().err == "shop was taken down\n"


def test_a_short_absence_of_the_daemon_while_starting_is_waited_for(
    world: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[AppStatus | NotRunningError] = [EMPTY, NotRunningError("away"), NotRunningError("away"), READY]

    def status(self: FakeClient) -> AppStatus:
        answer = answers.pop(0)
        if isinstance(answer, NotRunningError):
            raise answer
        return answer

    monkeypatch.setattr(FakeClient, "status", status)
    assert entry.run(["up", "-d"]) == 0


def test_down_says_what_it_stops_and_waits_for_the_end(world: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    world.runs, world.gone_after = True, 4
    FakeClient.statuses[:] = [app(USERS)]
    assert entry.run(["down"]) == 0
    assert capsys.readouterr().out == "stopping shop: 1 service, 2 replicas\nshop is down (0.2 s)\n"
    assert asked() == ["ensure", "down"]


def test_down_where_nothing_runs_is_fine(world: Plane, plane: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert entry.run(["down"]) == 0
    assert capsys.readouterr().out == f"nothing runs in {plane}\n"
    assert entry.run(["down", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": False, "app": None}
    assert asked() == []


def test_down_finds_what_outlived_its_plane(world: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    world.leftovers = True
    FakeClient.statuses[:] = [app(USERS)]
    assert entry.run(["down", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": True, "app": "shop", "services": ["user-service"]}
    assert asked() == ["ensure", "down"]


def test_a_down_that_takes_long_says_what_is_left(world: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    world.runs, world.gone_after = True, 10_000
    FakeClient.statuses[:] = [app(USERS)]
    assert entry.run(["down", "--timeout", "12"]) == 5
    said = capsys.readouterr().err
    assert said.count("still stopping: user-service-r1 (answers its probe)") == 2
    assert "not everything has stopped within 12 s: user-service-r1" in said


def test_the_table_on_a_terminal_is_drawn_until_all_is_ready(world: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    import shoal.cli.live

    drawn: list[list[str]] = []

    class Display:
        def __enter__(self) -> SimpleNamespace:
            return SimpleNamespace(show=drawn.append)

        def __exit__(self, *_: object) -> None: ...

    for module in (up, waiting):
        monkeypatch.setattr(module, "is_terminal", lambda: True)
    monkeypatch.setattr(shoal.cli.live, "Display", Display)
    FakeClient.statuses[:] = [EMPTY, STARTING, READY]
    assert entry.run(["up", "-d"]) == 0
    assert drawn[0][-1] == "web is starting: 0 of 1 ready"
    assert drawn[-1][1] == "web      1         1/1    ready  http://localhost:3000"
