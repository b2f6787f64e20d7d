# ruff: noqa: E501  a table with one case a line
"""Traffic policies: what is in force, who said it, what a change of one changes, and what no policy may break."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.api.admission import admit
from shoal.control import policies
from shoal.control.dryrun import dry_run
from shoal.control.revisions import digest, next_desired
from shoal.errors import UsageError
from shoal.mesh.assemble import assemble
from shoal.mesh.compile import MeshOptions, compile_app
from shoal.mesh.policies import DEFAULT, in_force, listed
from shoal.mesh.references import references
from shoal.mesh.snapshot import CLUSTER, LISTENER, ROUTES, TYPES, Message
from shoal.model.app import App, Command, External, Gateway, Network, Protocol, Route, Service
from shoal.model.topology import Edge
from shoal.model.traffic import (
    NOTHING,
    Balance,
    Breaker,
    Choice,
    Fault,
    Limit,
    Outlier,
    Policy,
    RetryBudget,
    shown,
    words,
)
from shoal.model.world import Observed
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError
from shoal.spec.wire import decode, encode
from tests.support.any_policy import any_policies
from tests.support.envoy import edge_map

OPTIONS = MeshOptions(mesh_socket="/run/mesh.sock", doors="/run", ipv6=False)


def load(text: str) -> App:
    return load_text(text.encode(), "shoal.yaml", Path("/srv"), {}, "host")


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("timeout: 2s", Policy(timeout_s=2.0)),
        ("timeout: 500ms, per_try_timeout: 100ms", Policy(timeout_s=0.5, per_try_timeout_s=0.1)),
        ("timeout: off", Policy(timeout_s=0.0)),
        ("timeout: 90", Policy(timeout_s=90.0)),
        ("timeout: 1.5m", Policy(timeout_s=90.0)),
        ("retries: off", Policy(retries=0)),
        ("retry_budget: 50%", Policy(retry_budget=RetryBudget(percent=50.0))),
        ("retry_budget: {floor: 8}", Policy(retry_budget=RetryBudget(floor=8))),
        ("outlier: off", Policy(outlier=Outlier(errors=0))),
        ("outlier: 3", Policy(outlier=Outlier(errors=3))),
        (
            "outlier: {errors: 3, interval: 500ms, ejection: 1m, percent: 34}",
            Policy(outlier=Outlier(errors=3, interval_s=0.5, ejection_s=60.0, percent=34)),
        ),
        ("breaker: 100", Policy(breaker=Breaker(requests=100))),
        ("breaker: off", Policy(breaker=Breaker(connections=0, pending=0, requests=0))),
        ("breaker: {connections: 5, pending: off}", Policy(breaker=Breaker(connections=5, pending=0))),
        ("limit: 100/s", Policy(limit=Limit(requests=100, per_s=1.0))),
        ("limit: {rate: 30/m, burst: 5}", Policy(limit=Limit(requests=30, per_s=60.0, burst=5))),
        ("balance: random", Policy(balance=Balance(choice=Choice.RANDOM))),
        ("balance: {header: x-user}", Policy(balance=Balance(choice=Choice.RING_HASH, header="x-user"))),
        (
            "balance: {ring_hash: {cookie: c, ttl: 1h}}",
            Policy(balance=Balance(choice=Choice.RING_HASH, cookie="c", ttl_s=3600.0)),
        ),
        ("fault: {delay: 200ms, percent: 10%}", Policy(fault=Fault(delay_s=0.2, percent=10.0))),
        ("fault: {abort: 503}", Policy(fault=Fault(abort=503))),
    ],
)
def test_what_is_written_is_what_is_meant_for_a_service_an_edge_and_all(written: str, wanted: Policy) -> None:
    of_service = load(f"services: {{api: {{command: x, port: 1, {written}}}}}")
    assert of_service.services[0].traffic == wanted
    of_all = load(f"services: {{api: {{command: x, port: 1}}}}\ndefaults: {{{written}}}")
    assert of_all.services[0].traffic == wanted
    for calls in (f"{{api: {{{written}}}}}", f"[{{api: {{{written}}}}}]"):
        of_edge = load(f"services: {{web: {{command: x, calls: {calls}}}, api: {{command: x, port: 1}}}}")
        assert (of_edge.services[0].calls, of_edge.services[0].edges) == (("api",), (("api", wanted),))
        assert of_edge.services[1].traffic == NOTHING
    admit(of_edge)
    assert decode(App, encode(of_edge)) == of_edge


API = "api: {command: x, port: 1}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api: {command: x, port: 1, timeout: fast}", "services.api.timeout: must be a time, or off; write it like 2s"),
        ("api: {command: x, port: 1, timeout: false}", "services.api.timeout: must be a time, or off; write off"),
        ("api: {command: x, port: 1, timeout: 0}", "must be between 1ms and 24h; write off for none"),
        ("api: {command: x, port: 1, retries: 11}", "services.api.retries: must be a whole number from 0 to 10, or off"),
        ("api: {command: x, port: 1, retry_budget: 200%}", "services.api.retry_budget: must be a percentage"),
        ("api: {command: x, port: 1, outlier: {erors: 3}}", "services.api.outlier.erors: unknown key; did you mean 'errors'?"),
        ("api: {command: x, port: 1, outlier: {interval: off}}", "services.api.outlier.interval: must be a time"),
        ("api: {command: x, port: 1, breaker: {requests: 0}}", "services.api.breaker.requests: must be a whole number from 1"),
        ("api: {command: x, port: 1, limit: 100}", "services.api.limit: must be so many requests a second, minute or hour, or off; write 100/s"),
        ("api: {command: x, port: 1, balance: sticky}", "did you mean {cookie: NAME}?"),
        ("api: {command: x, port: 1, balance: ring_hash}", "does not say by what; write balance: {cookie: NAME}"),
        ("api: {command: x, port: 1, balance: {cookie: 'a;b'}}", "services.api.balance.cookie: must be a name"),
        ("api: {command: x, port: 1, balance: {cookie: a, header: b}}", "needs one of header and cookie"),
        ("api: {command: x, port: 1, fault: 503}", "must be a mapping; write it like {delay: 200ms, percent: 10%}"),
        ("api: {command: x, port: 1, fault: {percent: 3%}}", "does nothing; add 'delay' or 'abort'"),
        ("api: {command: x, port: 1, fault: {abort: 200}}", "services.api.fault.abort: must be a status from 400 to 599"),
        ("api: {command: x, timeout: 1s}", "services.api.timeout: nobody calls it: it has no port"),
        ("api: {command: x, port: 1, protocol: tcp, timeout: 1s}", "is for requests, and 'api' speaks TCP; remove it; for TCP:"),
        ("api: {command: x, port: 1, protocol: tcp, breaker: 3}", "write breaker: {connections: N}"),
        ("api: {command: x, port: 1, protocol: tcp, balance: {header: a}}", "choose round_robin, or another"),
        ("api: {external: 'x:1', outlier: 3}", "'api' is external: nobody knows what is behind its one address"),
        ("api: {command: x, port: 1, timeout: 1s, per_try_timeout: 1s}", "is not shorter than 'timeout'"),
        ("api: {command: x, port: 1, retries: off, per_try_timeout: 1s}", "needs retries, and they are off"),
        (f"web: {{command: x, calls: {{api: {{timout: 1s}}}}}}, {API}", "services.web.calls.api.timout: unknown key; did you mean 'timeout'?"),
        (f"web: {{command: x, calls: [{{api: {{retries: x}}}}]}}, {API}", "services.web.calls[0].api.retries: must be"),
        (f"web: {{command: x, calls: [{{api: {{limit: 5}}}}]}}, {API}", "services.web.calls[0].api.limit: must be so many"),
        (f"web: {{command: x, calls: [api, {{api: {{}}}}]}}, {API}", "services.web.calls[1].api: 'api' is named twice"),
        (f"web: {{command: x, calls: {{apo: {{}}}}}}, {API}", "services.web.calls.apo: there is no service 'apo'; did you mean 'api'?"),
        ("web: {command: x, calls: {db: {timeout: 1s}}}, db: {command: x, port: 1, protocol: tcp}", "services.web.calls.db.timeout: is for requests"),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_told_at_its_place(text: str, expected: str) -> None:
    found = problems(f"services: {{{text}}}")
    assert len(found) == 1, found
    assert expected in found[0], found


def test_a_name_alone_may_stand_in_a_mapping_of_calls() -> None:
    app = load(
        "services:\n  web:\n    command: x\n    calls:\n      api: {retries: 1}\n      db:\n  api: {command: x, port: 1}\n  db: {command: x, port: 2}"
    )
    assert app.services[0].calls == ("api", "db")
    assert app.services[0].edges == (("api", Policy(retries=1)),)


def test_defaults_reach_those_services_that_they_mean_something_for() -> None:
    app = load(
        "services: {worker: {command: x}, db: {command: x, port: 1, protocol: tcp}, pay: {external: 'pay:2'},"
        " web: {command: x, port: 3, timeout: 1s}}\n"
        "defaults: {timeout: 3s, outlier: off, retries: 2, breaker: 9}"
    )
    of = {s.name: s.traffic for s in app.services}
    nine, off = Breaker(requests=9), Outlier(errors=0)
    assert of["worker"] == NOTHING
    assert of["db"] == Policy(outlier=off, retries=2)
    assert of["pay"] == Policy(timeout_s=3.0, retries=2, breaker=nine)
    assert of["web"] == Policy(timeout_s=1.0, outlier=off, retries=2, breaker=nine)


def service(name: str, **more: object) -> Service:
    values = {"port": 3000, "folder": "/", "workload": Command(argv=("x",))} | more
    return Service(name=name, **values)  # type: ignore[arg-type]


def test_an_edge_wins_over_the_service_and_it_over_the_defaults() -> None:
    api = service("api", traffic=Policy(timeout_s=3.0, breaker=Breaker(requests=7)))
    policy = in_force(api, Policy(retries=1, breaker=Breaker(connections=2)))
    assert (policy.timeout_s, policy.per_try_timeout_s, policy.retries) == (3.0, 1.0, 1)
    assert policy.breaker == Breaker(connections=2, pending=1024, requests=1024)
    assert policy.outlier == DEFAULT.outlier
    origins = {one.key: (one.value, one.origin) for one in listed(api, Policy(retries=1))}
    assert origins["timeout"] == ("3s", "service")
    assert origins["per_try_timeout"] == ("1s", "default")
    assert origins["retries"] == ("1", "edge")
    assert origins["limit"] == ("off", "default")


def test_without_retries_or_time_out_nobody_else_is_asked() -> None:
    assert in_force(service("a", traffic=Policy(retries=0))).per_try_timeout_s == 0
    assert in_force(service("a", traffic=Policy(timeout_s=0.0))).per_try_timeout_s == 0


def test_explain_and_plan_have_the_words_of_the_app_file() -> None:
    web = service("web", calls=("api",), edges=(("api", Policy(timeout_s=0.5, fault=Fault(abort=503, percent=1.0))),))
    app = App(name="app", services=(web, service("api", traffic=Policy(retries=1))))
    settings = {s.name: (s.value, s.source) for s in policies.of_service(app, app.services[1])}
    assert settings["retries"] == ("1", "app file")
    assert settings["timeout"] == ("15s", "default")
    assert settings["timeout for web"] == ("500ms", "calls of web")
    of_edge = {s.name: (s.value, s.source) for s in policies.of_calls(app, web)["api"]}
    assert (of_edge["timeout"], of_edge["retries"]) == (("500ms", "edge"), ("1", "service"))
    assert list(policies.faults(web)) == ["its calls to api: abort 503, 1% of requests"]
    before, _, _ = next_desired(app, None, {}, 0.0)
    newest = {t.service.name: t.revision for t in before.targets.values()}
    quiet = replace(web, edges=(("api", Policy(timeout_s=0.7)),))
    changed = dry_run(replace(app, services=(quiet, app.services[1])), before, newest, Observed(), 1.0).changes[0]
    assert changed.revision is None
    assert changed.reasons == (
        "calls.api.timeout: 500ms -> 700ms",
        "calls.api.fault: abort 503, 1% of requests -> default",
    )


@st.composite
def apps(draw: st.DrawFn) -> App:
    """Two callers, and callees of every kind, on both sides, with whatever policies."""
    kinds: list[dict[str, object]] = [
        {},
        {"protocol": Protocol.GRPC},
        {"protocol": Protocol.TCP},
        {"workload": External(host="10.0.0.7", port=80), "replicas": 0},
        {"network": Network.OWN},
    ]
    callees = tuple(service(f"s{n}", traffic=draw(any_policies), **kind) for n, kind in enumerate(kinds))
    names = tuple(s.name for s in callees)
    callers = tuple(
        service(
            name,
            port=None,
            calls=names,
            network=network,
            edges=tuple((n, p) for n in names if (p := draw(any_policies))),
        )
        for name, network in (("near", Network.HOST), ("far", Network.OWN))
    )
    gateway = Gateway(port=8088, routes=(Route(service="s0", path="/"), Route(service="s4", path="/far")))
    return App(name="app", services=(*callees, *callers), gateway=gateway, dev=draw(st.booleans()))


@given(apps(), st.sampled_from(Network))
def test_whatever_the_policies_say_all_that_is_led_to_is_there_and_listeners_stay(app: App, side: Network) -> None:
    static = compile_app(app, edge_map(app, 77), OPTIONS, side)
    snapshot = assemble(static, {}, version=1, replicas=frozenset())
    for type_url in TYPES:
        for message in snapshot.resources[type_url].values():
            for needed_type, name in references(type_url, message):
                assert name in snapshot.resources[needed_type], (needed_type, name)
    quiet = replace(app, services=tuple(replace(s, traffic=NOTHING, edges=()) for s in app.services))
    before = compile_app(quiet, edge_map(app, 77), OPTIONS, side)[LISTENER]
    after = static[LISTENER]
    http = {name for name in before if ".s2." not in name}  # TCP has its policy in its listener
    assert {n: before[n] for n in http} == {n: after[n] for n in http}
    for one in app.services:
        assert digest(app, one) == digest(quiet, quiet.service(one.name))


@given(any_policies)
def test_a_sound_policy_is_admitted_survives_the_store_and_has_words(policy: Policy) -> None:
    app = App(name="app", services=(service("a", traffic=policy),))
    admit(app)
    assert decode(App, encode(app)) == app
    assert len(words(in_force(app.services[0]))) == len(fields(Policy))


def test_an_app_that_comes_by_the_api_is_checked_again() -> None:
    wrong = [
        Policy(timeout_s=-1.0),
        Policy(retries=99),
        Policy(balance=Balance(choice=Choice.RING_HASH)),
        Policy(balance=Balance(choice=Choice.RING_HASH, header="a\r\nb")),
        Policy(limit=Limit(requests=1, per_s=0.0)),
        Policy(fault=Fault(abort=99)),
        Policy(retry_budget=RetryBudget(percent=0.0)),
    ]
    for policy in wrong:
        with pytest.raises(UsageError):
            admit(App(name="app", services=(service("a", traffic=policy),)))
    with pytest.raises(UsageError, match="is not in calls"):
        admit(App(name="app", services=(service("a", edges=(("b", Policy(retries=1)),)), service("b"))))


def test_only_callers_with_a_breaker_or_the_like_have_clusters_of_their_own() -> None:
    edges = (("api", Policy(timeout_s=1.0)),)
    bulk = (("api", Policy(breaker=Breaker(requests=2))),)
    app = App(
        name="app",
        services=(service("api"), service("a", calls=("api",), edges=edges), service("b", calls=("api",), edges=bulk)),
    )
    static = compile_app(app, edge_map(app, 77), OPTIONS)
    of_api = sorted(name for name in static[CLUSTER] if name.startswith("api"))
    assert of_api == ["api", "api|from:b", "api|from:b|h2", "api|h2"]
    assert {static[CLUSTER][name].alt_stat_name or name for name in of_api} == {"api"}
    assert len([name for name in static[ROUTES] if name.startswith("service.api")]) == 1


def test_times_are_shown_as_they_are_written() -> None:
    written = {
        0.0: "off",
        0.25: "250ms",
        0.0005: "0ms",
        2.0: "2s",
        60.0: "1m",
        90.0: "90s",
        3600.0: "1h",
        1.5: "1500ms",
    }
    assert {seconds: shown(seconds) for seconds in written} == written


def test_an_edge_of_a_caller_is_named_on_its_way() -> None:
    app = App(name="app", services=(service("api"), service("web", port=None, calls=("api",))))
    listener: Message = compile_app(app, edge_map(app, 77), OPTIONS)[LISTENER]["edge.web.api.3000"]
    assert b"x-shoal-caller" in listener.SerializeToString()
    assert Edge(caller="web", callee="api", number=2) in edge_map(app, 77).edges.values()
