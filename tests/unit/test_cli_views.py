"""What people see, letter by letter."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal import __version__
from shoal.cli.hints import way_out_of
from shoal.cli.output import age, clean, paint, problem_details, show_error, table
from shoal.cli.progress import Progress, failing, is_up, why_not_ready
from shoal.cli.views import addresses, app_view, entry_line, explanation_view, replicas_table, services_table
from shoal.errors import ConflictError
from shoal.model.lag import InboxLag, OutboxLag
from shoal.model.status import (
    AppStatus,
    ExitStatus,
    Explanation,
    GatewayStatus,
    Health,
    ProxyStatus,
    ReplicaStatus,
    RouteStatus,
    ServiceStatus,
    Setting,
)
from shoal.ports import JournalEntry

NOW = 1_000_000.0


def replica(service: str, number: int, state: str = "ready", **changes: object) -> ReplicaStatus:
    made = ReplicaStatus(
        id=f"{service}-r{number}",
        service=service,
        revision=1,
        state=state,
        reason="answers its probe",
        since=NOW - 75,
        attempt=1,
        crashes=0,
        pid=400 + number,
        address="unix:/run/x.sock",
        last_exit=None,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def service(name: str, *replicas: ReplicaStatus, health: Health = Health.READY, **changes: object) -> ServiceStatus:
    ready = sum(r.state == "ready" for r in replicas)
    made = ServiceStatus(
        name=name,
        health=health,
        reason=f"{ready} of {len(replicas)} ready",
        runs=f"run shop.{name}:app",
        revision=1,
        wanted=len(replicas),
        ready=ready,
        port=3000,
        address="http://localhost:3000",
        calls=(),
        replicas=replicas,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


ENDED = ExitStatus(
    at=NOW - 5, code=1, reason="exit code 1", tail=("Traceback:", "ModuleNotFoundError: No module named 'flask'")
)
CRASHING = service(
    "carts",
    replica(
        "carts",
        1,
        "backing-off",
        reason="exit code 1, next start in 3.2 s",
        attempt=5,
        crashes=4,
        pid=None,
        last_exit=ENDED,
    ),
    health=Health.FAILING,
    reason="crash loop: exit code 1 (4 times in a row)",
    port=3002,
    address=None,
)  # fmt: skip
USERS = service("user-service", replica("user-service", 1), replica("user-service", 2))
WORKER = service("mailer", replica("mailer", 1), port=None, address=None)


def app(*services: ServiceStatus, health: Health = Health.READY, **changes: object) -> AppStatus:
    made = AppStatus(
        app="shop",
        folder="/srv/shop",
        version="0.1.0",
        daemon_pid=7,
        generation=2,
        health=health,
        reason=f"{sum(s.health is Health.READY for s in services)} of {len(services)} services ready",
        names="names",
        names_reason="",
        proxy=ProxyStatus(state="serving", pid=8, reason=""),
        gateway=GatewayStatus(
            address="http://localhost:8080",
            port=8080,
            routes=(
                RouteStatus(host=None, path="/users", service="user-service"),
                RouteStatus(host="shop.localhost", path="/", service="carts"),
            ),
        ),
        services=services,
        sequence=12,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_status_of_an_app() -> None:
    status = app(USERS, CRASHING, WORKER, health=Health.FAILING)
    assert (
        "\n".join(app_view(status))
        == """\
shop is failing: 2 of 3 services ready
deploy 2, /srv/shop

SERVICE       REVISION  READY  STATE    ADDRESS
user-service  1         2/2    ready    http://localhost:3000
carts         1         0/1    failing  carts:3002 (in the mesh)
mailer        1         1/1    ready    -

gateway  http://localhost:8080
  /users           user-service
  shop.localhost/  carts

carts is failing: crash loop: exit code 1 (4 times in a row)"""
    )


def test_what_is_less_than_good_is_noted() -> None:
    status = app(
        USERS,
        names="env",
        names_reason="AppArmor forbids it",
        version="0.0.9",
        proxy=ProxyStatus(state="backing-off", pid=None, reason="exit code 1", rejected={"listener/x": "bad \x1b[2J"}),
        gateway=None,
    )
    notes = app_view(status)[-4:]
    assert notes[0] == "services find each other by variables only: AppArmor forbids it"
    assert notes[1] == "Envoy is backing-off: exit code 1"
    assert notes[2] == "Envoy refused listener/x: bad "
    assert notes[3].startswith("the daemon is Shoal 0.0.9, this is ")


def test_the_replicas() -> None:
    lines = replicas_table([*USERS.replicas, *CRASHING.replicas], NOW)
    assert (
        "\n".join(lines)
        == """\
REPLICA          PID  AGE  RESTARTS  STATE        REASON
user-service-r1  401  1m   0         ready        answers its probe
user-service-r2  402  1m   0         ready        answers its probe
carts-r1         -    1m   4         backing-off  exit code 1, next start in 3.2 s"""
    )


def test_nothing_is_said_to_be_nothing() -> None:
    assert replicas_table([], NOW) == ["no replicas"]
    assert services_table(app()) == ["no services"]


CART = InboxLag(consumer="cart-service", behind=12, dead_letters=2)
BEHIND = service("cart-service", inbox=CART, outbox=OutboxLag(pending=3, oldest_s=12.4))


def test_events_that_are_behind_are_noted_and_those_that_keep_up_are_not() -> None:
    silent = ("how far events are behind is unknown: nats: does not listen",)
    status = app(
        BEHIND,
        service("product-service", inbox=InboxLag(consumer="product-service", behind=0, dead_letters=0)),
        service("mailer", outbox=OutboxLag(pending=0, oldest_s=0.0), lag_unknown=silent),
        service("reports", lag_unknown=silent),
        inboxes=(InboxLag(consumer="old-mailer", behind=1, dead_letters=1),),
        gateway=None,
        version=__version__,
    )
    view = app_view(status)
    assert view[view.index("mailer           1         0/0    ready  http://localhost:3000") + 2 :] == [
        "",
        "cart-service: 12 events behind; "
        "2 dead letters (shoal exec cart-service -- python -m shoal.sdk.dead list --inbox cart-service); "
        "3 events not yet published, the oldest 12s old",
        "inbox old-mailer: 1 event behind; "
        "1 dead letter (shoal exec SERVICE -- python -m shoal.sdk.dead list --inbox old-mailer)",
        "how far events are behind is unknown: nats: does not listen",
    ]


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        (BEHIND, 2),
        (service("cart-service", inbox=replace(CART, behind=0, dead_letters=0)), ["Events in: all applied"]),
        (service("cart-service", outbox=OutboxLag(pending=0, oldest_s=0.0)), ["Events out: all published"]),
        (service("cart-service", lag_unknown=("the outbox is unknown: why",)), ["Events: the outbox is unknown: why"]),
        (service("cart-service"), []),
    ],
)
def test_an_explanation_says_how_far_events_are(changed: ServiceStatus, lines: list[str] | int) -> None:
    explanation = Explanation(service=changed, settings=(), decisions=(), waits=(), reaches={}, called_by=())
    told = [line for line in explanation_view(explanation, NOW) if line.startswith("Events")]
    assert told == lines or len(told) == lines


def test_an_explanation() -> None:
    explanation = Explanation(
        service=CRASHING,
        settings=(
            Setting(name="port", value="3002", source="app file"),
            Setting(name="health", value="/healthz", source="default"),
        ),
        decisions=("start carts-r1: back-off of 3.2 s is over",),
        waits=("carts-r1: next start in 3.2 s",),
        reaches={"user-service": "127.77.0.3:3000"},
        called_by=(),
    )
    assert (
        "\n".join(explanation_view(explanation, NOW))
        == """\
carts is failing: crash loop: exit code 1 (4 times in a row)
run shop.carts:app, revision 1, carts:3002 (in the mesh)

REPLICA   PID  AGE  RESTARTS  STATE        REASON
carts-r1  -    1m   4         backing-off  exit code 1, next start in 3.2 s

carts-r1 last ended 5s ago: exit code 1
    Traceback:
    ModuleNotFoundError: No module named 'flask'

Now:
  start carts-r1: back-off of 3.2 s is over
  waits: carts-r1: next start in 3.2 s

Calls:
  user-service at 127.77.0.3:3000

Called by: no service

SETTING  VALUE     FROM
port     3002      app file
health   /healthz  default"""
    )


def test_the_addresses_once_it_is_up() -> None:
    assert (
        "\n".join(addresses(app(USERS, WORKER)))
        == """\
  gateway       http://localhost:8080
    /users           user-service
    shop.localhost/  carts
  user-service  http://localhost:3000"""
    )


def test_an_event_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = JournalEntry(sequence=1, at=0, kind="ReplicaExited", subject="web-r1", message="ended:\n\x07boo", data={})
    assert entry_line(entry).endswith(r"  web-r1  ended:\n\x07boo")


def test_progress_tells_each_change_once() -> None:
    progress = Progress()
    starting = service("web", replica("web", 1, "starting", reason="installing 14 packages"), health=Health.STARTING)
    assert progress.changes(app(starting, WORKER), 0.1) == [
        "web     r1 starting: installing 14 packages  (0.1 s)",
        "mailer  r1 ready  (0.1 s)",
    ]
    counted = service("web", replica("web", 1, "starting", reason="installing 7 packages"), health=Health.STARTING)
    assert progress.changes(app(counted, WORKER), 0.2) == []
    assert progress.changes(app(service("web", replica("web", 1)), WORKER), 1.23) == ["web     r1 ready  (1.2 s)"]
    assert progress.changes(app(service("web", replica("web", 1)), WORKER), 1.5) == []


def test_what_every_start_goes_through_is_told_only_when_it_takes_long() -> None:
    progress = Progress()
    starting = service("web", replica("web", 1, "starting", reason="not ready yet: HTTP 503"), health=Health.STARTING)
    assert progress.changes(app(starting), 1.0) == []
    assert progress.changes(app(starting), 4.0) == ["web  r1 starting: not ready yet: HTTP 503  (4.0 s)"]


def test_a_service_that_waits_says_for_what_once() -> None:
    waiting = service("web", health=Health.WAITING, reason="waits for db")
    progress = Progress()
    assert progress.changes(app(waiting), 0) == []
    assert progress.changes(app(waiting), 4) == ["web  waits for db  (4.0 s)"]
    assert progress.changes(app(waiting), 5) == []


@pytest.mark.parametrize(
    ("health", "generation", "up"),
    [
        (Health.READY, 2, True),
        (Health.READY, 3, False),
        (Health.READY, 1, True),
        (Health.STOPPED, 2, True),
        (Health.DEGRADED, 2, False),
        (Health.STARTING, 2, False),
    ],
)
def test_it_is_up_when_this_deploy_is_ready(health: Health, generation: int, up: bool) -> None:
    assert is_up(app(USERS, health=health), generation) is up


def test_a_crash_loop_of_the_revision_that_leaves_is_no_failure() -> None:
    assert failing(app(USERS, CRASHING)) == [CRASHING]
    assert failing(app(replace(CRASHING, revision=2))) == []


def test_why_it_is_not_ready() -> None:
    error = why_not_ready(app(USERS, CRASHING), 3.0)
    assert (error.message, error.way_out) == ("carts is failing", "more: shoal logs carts, shoal explain carts")
    assert (
        error.detail
        == """\
carts: crash loop: exit code 1 (4 times in a row)
  run shop.carts:app
  carts-r1 ended: exit code 1
    | Traceback:
    | ModuleNotFoundError: No module named 'flask'
  -> add 'flask' to the requirements of carts, or correct 'run' or 'cwd'"""
    )


def test_a_service_that_is_only_late_says_where_it_stands() -> None:
    late = service("web", replica("web", 1, "starting", reason="not ready yet: HTTP 503"), health=Health.STARTING)
    error = why_not_ready(app(USERS, late), 120.0)
    assert error.message == "web is not ready after 120 s"
    assert "web-r1 is starting: not ready yet: HTTP 503" in error.detail


def test_envoy_that_is_late_is_said_of_the_app() -> None:
    error = why_not_ready(app(USERS, health=Health.STARTING, reason="Envoy has not confirmed its configuration"), 9.0)
    assert error.message == "shop is not up after 9 s: Envoy has not confirmed its configuration"


@pytest.mark.parametrize(
    ("tail", "code", "expected"),
    [
        ("OSError: [Errno 98] Address already in use", 1, "listen on $PORT"),
        ("Error: Cannot find module 'express'", 1, "install 'express'"),
        ("KeyError: 'DATABASE_URL'", 1, "set the variable DATABASE_URL under services.carts.env"),
        ("sh: 1: nodee: not found", 127, "the program was not found"),
        ("", -9, "killed it"),
        ("nothing to see", 1, ""),
    ],
)
def test_common_ends_have_a_way_out(tail: str, code: int, expected: str) -> None:
    hint = way_out_of(ExitStatus(at=0, code=code, reason="", tail=(tail,)), CRASHING)
    assert (expected in hint) if expected else hint == ""


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-3, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (2e5, "2d")]
)  # fmt: skip
def test_ages(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \t text", "plain \t text"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\rb\x08", r"a\rb\x08"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202egnp", r"\u202egnp"),
        ("\udcff", r"\udcff"),
        ("schön", "schön"),
    ],
)
def test_foreign_text_cannot_steer_the_terminal(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_foreign_text_is_one_line_without_control_characters(text: str) -> None:
    shown = clean(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 32 and c != "\t" for c in shown) and "\x7f" not in shown
    shown.encode()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_and_not_where_it_is_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert paint("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "red", Terminal()) == "x"


def test_columns_line_up() -> None:
    assert table(("A", "LONG"), [("xxx", "y"), ("", "")]) == ["A    LONG", "xxx  y", ""]


def test_an_error_is_two_lines_and_its_detail(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConflictError("port 80 is taken\nand port 81", way_out="free them", detail="one\n\ntwo\x07")
    show_error(error)
    assert capsys.readouterr().err == (
        "shoal: port 80 is taken\n  and port 81\n  -> free them\n    one\n\n    two\\x07\n"
    )
    assert problem_details(error) == {
        "type": "urn:shoal:error:conflict",
        "title": "conflict",
        "status": 409,
        "detail": "port 80 is taken\nand port 81",
        "code": "conflict",
        "way_out": "free them",
        "lines": ["one", "", "two\x07"],
    }


def test_how_services_find_each_other_is_told_where_it_is_not_the_best_way() -> None:
    assert not [line for line in app_view(app(USERS)) if "find" in line or "/etc/hosts" in line]
    shared = "\n".join(app_view(app(USERS, names="hosts", names_reason="refused here")))
    assert "an /etc/hosts for all, so that nobody knows who calls: refused here" in shared
    variables = "\n".join(app_view(app(USERS, names="env", names_reason="refused here")))
    assert "by variables only: refused here" in variables
