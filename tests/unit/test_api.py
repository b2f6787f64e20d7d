"""The API's answers and problems, called without a server."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.api.problems import MethodError, TooLargeError
from shoal.errors import ConflictError, NotFoundError, ShoalError, StoreError, UsageError
from shoal.model.app import App
from shoal.model.migration import MigrationList
from shoal.model.status import (
    AppStatus,
    Deployment,
    DryRun,
    ExecContext,
    Explanation,
    RevisionDiff,
    RevisionList,
    ServiceStatus,
)
from shoal.spec import wire
from tests.support.api import (
    APP,
    CONTEXT,
    DIFF,
    DOCUMENT,
    DRY_RUN,
    EXPLANATION,
    MIGRATIONS,
    REVISIONS,
    SERVICE,
    STATUS,
    Plane,
    asked,
    problem_of,
)


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    return Plane(tmp_path)


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "kind", "expected"),
    [
        ("GET", "/v1/app", b"", 200, AppStatus, STATUS),
        (
            "POST",
            "/v1/deploy",
            {"app": DOCUMENT},
            200,
            Deployment,
            Deployment(generation=2, changed=("cart",), removed=(), sequence=5),
        ),
        ("POST", "/v1/plan", {"app": DOCUMENT}, 200, DryRun, DRY_RUN),
        ("GET", "/v1/services/cart", b"", 200, Explanation, EXPLANATION),
        ("POST", "/v1/services/cart/scale", {"replicas": 1}, 200, ServiceStatus, SERVICE),
        ("POST", "/v1/services/cart/restart", b"", 200, ServiceStatus, SERVICE),
        ("POST", "/v1/services/cart/rollback", b'{"to": 1}', 200, ServiceStatus, SERVICE),
        ("POST", "/v1/services/cart/diff", {"before": 1, "app": DOCUMENT}, 200, RevisionDiff, DIFF),
        ("GET", "/v1/services/cart/revisions", b"", 200, RevisionList, REVISIONS),
        ("GET", "/v1/services/cart/migrations", b"", 200, MigrationList, MIGRATIONS),
        ("GET", "/v1/services/cart/exec", b"", 200, ExecContext, CONTEXT),
    ],
)
def test_each_operation_answers_the_dataclass_as_json(
    plane: Plane, method: str, target: str, body: Any, status: int, kind: type[object], expected: object
) -> None:
    answer = asked(plane.app, method, target, body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert wire.decode(kind, answer.body) == expected


def test_a_status_and_an_explanation_are_told_with_the_lag_of_now(plane: Plane) -> None:
    for target in ("/v1/app", "/v1/services/cart", "/metrics"):
        before = plane.commands.looks_at_lag
        assert asked(plane.app, "GET", target).status == 200
        assert plane.commands.looks_at_lag == before + 1


def test_down_is_accepted(plane: Plane) -> None:
    answer = asked(plane.app, "POST", "/v1/down", {})
    assert (answer.status, answer.json) == (202, {})
    assert plane.commands.asked == [("down",)]


def test_the_deployed_app_arrives_as_it_was_sent(plane: Plane) -> None:
    asked(plane.app, "POST", "/v1/deploy", {"app": DOCUMENT})
    assert plane.commands.asked == [("deploy", APP)]


def test_a_body_may_come_in_pieces(plane: Plane) -> None:
    text = json.dumps({"app": DOCUMENT}).encode()
    answer = asked(plane.app, "POST", "/v1/deploy", pieces=[text[:10], b"", text[10:200], text[200:]])
    assert (answer.status, plane.commands.asked) == (200, [("deploy", APP)])


def test_an_app_of_a_thousand_services_fits(plane: Plane) -> None:
    cart = DOCUMENT["services"][0] | {"calls": [], "after": [], "publish": False}
    services = [
        cart | {"name": f"service-{n}", "env": [[f"NAME_{i}", "x" * 100] for i in range(20)]} for n in range(1000)
    ]
    answer = asked(plane.app, "POST", "/v1/deploy", {"app": DOCUMENT | {"services": services, "gateway": None}})
    assert answer.status == 200, answer.body[:500]


# Problems


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is not JSON: EOF while parsing"),
        (b"{", "the body is not JSON: EOF while parsing"),
        (b"\xff\xfe", "the body is not JSON: "),
        (b"[]", "first body: Input should be an object"),
        (b"{}", "first replicas: Field required"),
        (b'{"replicas": "3"}', "first replicas: Input should be a valid integer"),
        (b'{"replicas": true}', "first replicas: Input should be a valid integer"),
        (b'{"replicas": null}', "first replicas: Input should be a valid integer"),
        (b'{"replicas": 1e400}', "first replicas: Input should be a valid integer"),
        (b'{"replicas": 3, "when": "now"}', "this daemon does not know when"),
    ],
)
def test_a_wrong_body_is_a_usage_problem_with_the_field(plane: Plane, body: bytes, words: str) -> None:
    problem = problem_of(asked(plane.app, "POST", "/v1/services/cart/scale", body), UsageError)
    assert words in problem["detail"]
    assert plane.commands.asked == []


def test_every_flaw_of_a_body_is_told_with_its_path(plane: Plane) -> None:
    service = DOCUMENT["services"][0] | {"port": "3000", "replicas": 1.5}
    body = {"app": DOCUMENT | {"services": [DOCUMENT["services"][1], service], "name": None}}
    problem = problem_of(asked(plane.app, "POST", "/v1/deploy", body), UsageError)
    assert problem["lines"] == [
        "app.name: Input should be a valid string",
        "app.services.1.port: Input should be a valid integer",
        "app.services.1.replicas: Input should be a valid integer",
    ]
    assert problem["detail"] == "the body has 3 flaws, first app.name: Input should be a valid string"


def test_many_flaws_are_cut_short(plane: Plane) -> None:
    body = {"app": DOCUMENT | {"services": [{}] * 50}}
    problem = problem_of(asked(plane.app, "POST", "/v1/deploy", body), UsageError)
    assert len(problem["lines"]) == 21
    assert problem["lines"][-1] == "and 130 more"


def test_what_an_older_daemon_would_not_do_is_refused(plane: Plane) -> None:
    service = DOCUMENT["services"][0] | {"timeout_s": 2}
    body = {"app": DOCUMENT | {"services": [service], "mood": "good"}}
    problem = problem_of(asked(plane.app, "POST", "/v1/deploy", body), UsageError)
    assert problem["detail"] == "this daemon does not know app.mood, app.services.0.timeout_s"
    assert "different versions" in problem["way_out"]


@pytest.mark.parametrize("size", [64 * 1024 + 1, 300_000])
def test_a_body_that_is_too_large_is_refused_before_it_is_all_read(plane: Plane, size: int) -> None:
    piece = b" " * 10_000
    problem = problem_of(
        asked(plane.app, "POST", "/v1/services/cart/scale", pieces=[piece] * (size // 10_000 + 1)), TooLargeError
    )
    assert problem["detail"] == ("the body has more than 65,536 bytes, which is all that /v1/services/cart/scale takes")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("name", "../up", "name: '../up' is no DNS label"),
        ("services.0.name", "../../etc", "is not made of lower case letters"),
        ("services.0.name", "envoy", "taken by Shoal"),
        ("services.0.name", "products", "services: 'products' is there 2 times"),
        ("services.0.port", 0, "services.cart.port: 0 is no port"),
        ("services.0.port", 65_536, "services.cart.port: 65536 is no port"),
        ("services.0.port", 8080, "services: port 8080 is published 2 times"),
        ("services.0.port", None, "services.cart.publish: it has no port"),
        ("services.0.listen", 70_000, "services.cart.listen: 70000 is no port"),
        ("services.0.listen", 9080, "services.cart.listen: it needs network: own"),
        ("services.0.replicas", 101, "services.cart.replicas: 101 is not between 0 and 100"),
        ("services.0.replicas", -1, "services.cart.replicas: -1 is not between 0 and 100"),
        ("services.0.folder", "shop", "services.cart.folder: 'shop' is not absolute"),
        ("services.0.health", "healthz", "services.cart.health: 'healthz' does not start with '/'"),
        ("services.0.calls", ["nobody"], "services.cart.calls: 'nobody' is no service with a port"),
        ("services.0.after", ["nobody"], "services.cart.after: 'nobody' is no service"),
        ("services.1.after", ["cart"], "wait for one another"),
        ("services.0.env", [["A=B", "x"]], "services.cart.env: 'A=B' cannot be a variable"),
        ("services.0.env", [["A", "\0"]], "services.cart.env: 'A' cannot be a variable"),
        ("services.1.workload", {"argv": []}, "services.products.workload: the command is empty"),
        ("services.1.port", None, "services.cart.calls: 'products' is no service with a port"),
        ("gateway.port", 70_000, "gateway.port: 70000 is no port"),
        ("gateway.routes", [{"service": "cart", "path": "carts"}], "gateway.routes: 'carts' does not start with '/'"),
        ("gateway.routes", [{"service": "web", "path": "/"}], "leads to 'web', which is no service with a port"),
    ],
)
def test_an_app_that_no_file_could_be_is_refused(plane: Plane, path: str, value: object, words: str) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    *parts, last = path.split(".")
    place = document
    for part in parts:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[last] = value
    problem = problem_of(asked(plane.app, "POST", "/v1/deploy", {"app": document}), UsageError)
    assert any(words in line for line in problem["lines"]), problem
    assert plane.commands.asked == []


@pytest.mark.parametrize(
    "target", ["/", "/v1", "/v1/app/", "/v2/app", "/v1/services/", "/v1/services/a/b", "/v1/services/a%2Fb", "//v1/app"]
)
def test_an_unknown_path_is_a_problem(plane: Plane, target: str) -> None:
    problem = problem_of(asked(plane.app, "GET", target), NotFoundError)
    assert "openapi.json" in problem["way_out"]


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [("POST", "/v1/app", "GET"), ("DELETE", "/v1/deploy", "POST"), ("PUT", "/v1/services/cart/scale", "POST")],
)
def test_a_wrong_method_is_a_problem_that_names_the_right_one(
    plane: Plane, method: str, target: str, allow: str
) -> None:
    answer = asked(plane.app, method, target)
    assert allow in problem_of(answer, MethodError)["way_out"]
    assert allow in answer.headers["allow"].split(", ")


@pytest.mark.parametrize("target", ["/v1/services/nobody", "/v1/services/nobody/exec", "/v1/services/nobody/logs"])
def test_an_unknown_service_is_a_problem_in_the_commands_words(plane: Plane, target: str) -> None:
    problem = problem_of(asked(plane.app, "GET", target), NotFoundError)
    assert (problem["detail"], problem["way_out"]) == ("shop has no service 'nobody'", "there are: cart")


@pytest.mark.parametrize(
    "error",
    [
        ConflictError("port 8080 is taken by pid 4 (nginx)", way_out="free it", detail="line 1\nline 2"),
        StoreError("the disk is full", way_out="make room"),
        UsageError("no"),
    ],
)
def test_errors_of_the_commands_come_through_whole(plane: Plane, error: ShoalError) -> None:
    plane.commands.broken = error
    problem = problem_of(asked(plane.app, "POST", "/v1/deploy", {"app": DOCUMENT}), type(error))
    assert (problem["detail"], problem["way_out"]) == (error.message, error.way_out)
    assert problem["lines"] == error.detail.splitlines()


def test_an_unexpected_failure_goes_into_the_log_and_not_into_the_answer(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.commands.broken = RuntimeError("PASSWORD=hunter2")
    with caplog.at_level(logging.ERROR, "shoal.api"):
        answer = asked(plane.app, "GET", "/v1/app")
    problem_of(answer, ShoalError)
    assert b"hunter2" not in answer.body
    assert "GET /v1/app failed" in caplog.text and "hunter2" in caplog.text


def test_bytes_that_are_no_utf_8_get_through_escaped(plane: Plane) -> None:
    plane.commands.reason = "caf\udce9"
    assert asked(plane.app, "GET", "/v1/services/cart").json["service"]["reason"] == "caf\udce9"
    plane.commands.broken = ConflictError("caf\udce9")
    assert asked(plane.app, "GET", "/v1/app").json["detail"] == "caf\udce9"


@given(st.binary(max_size=200), st.sampled_from(["/v1/deploy", "/v1/services/cart/scale"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_no_body_makes_the_daemon_fail(plane: Plane, body: bytes, target: str) -> None:
    problem_of(asked(plane.app, "POST", target, body), UsageError)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
def test_a_document_with_one_value_replaced_is_deployed_or_refused(plane: Plane, data: st.DataObject) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    place = data.draw(
        st.sampled_from([document, *document["services"], document["gateway"], document["gateway"]["routes"][0]])
    )
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(json_values)
    answer = asked(plane.app, "POST", "/v1/deploy", {"app": document})
    if answer.status == 200:
        deployed = plane.commands.asked[-1][1]
        assert isinstance(deployed, App)
    else:
        problem_of(answer, UsageError)


# The journal as a list


def test_the_journal_is_listed(plane: Plane) -> None:
    entries = [plane.happen("cart-r1"), plane.happen("app"), plane.happen("cart")]
    plain = [wire.to_plain(entry) for entry in entries]

    def listed(query: str) -> Any:
        return asked(plane.app, "GET", f"/v1/events{query}").json["events"]

    assert listed("") == plain
    assert listed("?after=1") == plain[1:]
    assert listed("?after=-1") == plain[2:]
    assert listed("?subject=cart") == [plain[0], plain[2]]
    assert listed("?after=0&limit=1&follow=0") == plain[:1]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("after=x", "'after' is 'x'"),
        ("after=", "'after' is ''"),
        ("after=1.5", "'after' is '1.5'"),
        ("after=%D9%A1", "'after' is '\u0661'"),
        ("after=99999999999999999999999", "'after' is"),
        ("limit=0", "'limit' is '0'"),
        ("limit=1001", "'limit' is '1001'"),
        ("follow=yes", "'follow' is 'yes'"),
        ("follow=1", "a list cannot be followed"),
        ("before=1", "/v1/events has no parameter 'before'"),
        ("Last-Event-ID=3", "/v1/events has no parameter 'Last-Event-ID'"),
    ],
)
def test_a_wrong_parameter_is_a_problem_with_its_name(plane: Plane, query: str, words: str) -> None:
    problem = problem_of(asked(plane.app, "GET", f"/v1/events?{query}"), UsageError)
    assert words in problem["detail"]
    assert problem["way_out"]


def test_an_unknown_parameter_is_a_problem_everywhere(plane: Plane) -> None:
    problem = problem_of(asked(plane.app, "GET", "/v1/app?verbose=1"), UsageError)
    assert (problem["detail"], problem["way_out"]) == ("/v1/app has no parameter 'verbose'", "leave it out")
