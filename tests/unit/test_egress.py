"""`egress:` what may be written, what a program finds of it, and when a replica is another one for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shoal.api.admission import admit
from shoal.control.egress import egress_settings
from shoal.control.revisions import digest
from shoal.engines.local.networks import resolver, ways_out
from shoal.errors import UsageError
from shoal.mesh import defaults
from shoal.model.app import App, Command, Network, Service
from shoal.model.topology import EGRESS, Edge, EdgeMap
from shoal.planner import egress
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError

EDGES = EdgeMap(
    network=77,
    edges={("web", EGRESS): Edge(caller="web", callee=EGRESS, number=258)},
    own=frozenset({"web"}),
)


def written(line: str, folder: Path) -> tuple[str, ...] | None:
    text = f"services:\n  web: {{command: x, {line}}}\n"
    return load_text(text.encode(), "shoal.yaml", folder, {}, "").services[0].egress


def web(places: tuple[str, ...] | None, network: Network = Network.OWN) -> Service:
    return Service(name="web", workload=Command(argv=("x",)), folder="/", network=network, egress=places)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("network: own", None),
        ("network: own, egress: []", ()),
        (
            "network: own, egress: [API.example.com:443, '*.example.com:80', api.example.com:443, '[::1]:22']",
            ("api.example.com:443", "*.example.com:80", "[::1]:22"),
        ),
    ],
)
def test_what_is_written_is_what_the_service_has(line: str, expected: tuple[str, ...] | None, tmp_path: Path) -> None:
    assert written(line, tmp_path) == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("egress: [a.com:443]", "cannot hold a service back that shares the machine's network; add 'network: own'"),
        ("network: own, egress: a.com:443", "must be a list; write [a.com:443]"),
        ("network: own, egress: [a.com]", "must be host:port; write a.com:443"),
        ("network: own, egress: ['https://a.com/x']", "is a URL, and host:port is needed; write a.com:443"),
        ("network: own, egress: ['http://a.com']", "is a URL, and host:port is needed; write a.com:80"),
        ("network: own, egress: ['*:443']", "must be host:port; such as api.example.com:443"),
        ("network: own, egress: ['a.*.com:443']", "must be host:port; such as api.example.com:443"),
        ("network: own, egress: [a.com:0]", "must be host:port"),
        ("network: own, egress: [443]", "must be a list of host:port"),
    ],
)
def test_a_mistake_is_told_with_the_way_out(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        written(line, tmp_path)
    (problem,) = caught.value.problems
    assert words in f"{problem.message}; {problem.way_out}"


def test_an_app_that_comes_by_the_api_is_looked_at_too() -> None:
    admit(App(name="app", services=(web(("a.com:443",)),)))
    for flawed in (web(("a.com",)), web(("A.com:443",)), web(("a.com:443",), Network.HOST)):
        with pytest.raises(UsageError, match="egress"):
            admit(App(name="app", services=(flawed,)))


def test_programs_find_the_proxy_under_both_spellings_and_their_peers_past_it() -> None:
    service = web(("a.com:443",))
    app = App(name="app", services=(service, replace(service, name="api", egress=None)))
    found = egress.proxy_variables(app, service, EDGES, {})
    assert found["HTTPS_PROXY"] == found["http_proxy"] == "http://10.78.1.2:3128"
    assert found["no_proxy"] == "localhost,127.0.0.1,::1,web,api"
    assert egress.PORT == defaults.EGRESS_PORT


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_a_proxy_that_the_user_set_has_nothing_of_ours_beside_it(name: str) -> None:
    service = web(("a.com:443",))
    found = egress.proxy_variables(App(name="app", services=(service,)), service, EDGES, {name: "x"})
    assert found.keys() == {"HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"}


@pytest.mark.parametrize("places", [None, ()])
def test_without_a_place_there_is_no_proxy(places: tuple[str, ...] | None) -> None:
    assert egress.proxy_variables(App(name="app", services=()), web(places), EDGES, {}) == {}


def test_another_place_changes_no_replica_and_a_first_one_does() -> None:
    def of(places: tuple[str, ...] | None) -> str:
        return digest(App(name="app", services=()), web(places))

    assert of(("a.com:1",)) == of(("a.com:1", "b.com:1"))
    assert len({of(None), of(()), of(("a.com:1",))}) == 3


def test_explain_says_where_it_may_connect() -> None:
    def of(service: Service, no_way_out: str = "") -> list[str]:
        return [setting.value for setting in egress_settings(service, no_way_out)]

    assert of(web(("a.com:1", "b.com:1"))) == ["a.com:1, b.com:1"]
    assert of(web(())) == ["nowhere"]
    assert of(web(None)) == ["everything outside the machine, by pasta"]
    assert of(web(None), "there is no pasta") == ["nowhere: there is no pasta"]
    assert of(web(None, Network.HOST)) == []


def test_a_machine_without_a_way_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ways_out.os, "geteuid", lambda: 0)
    assert "root" in ways_out.detect()[1]
    monkeypatch.setattr(ways_out.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ways_out.detect() == (
        False,
        "there is no pasta on the PATH; install the package passt, or name what the service connects to in its "
        "'egress'",
    )
    (tmp_path / "pasta").write_text("")
    (tmp_path / "pasta").chmod(0o755)
    monkeypatch.setattr(ways_out, "TUN", tmp_path / "tun")
    assert "is closed to this user" in ways_out.detect()[1]
    (tmp_path / "tun").touch()
    monkeypatch.setattr(ways_out, "ROUTES", tmp_path / "route")
    (tmp_path / "route").write_text("Iface\tDestination\neth0\t0002000A\n")
    assert "no route to the outside" in ways_out.detect()[1]
    (tmp_path / "route").write_text("Iface\tDestination\neth0\t00000000\n")
    assert ways_out.detect() == (True, "")


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("nameserver 127.0.0.53\noptions edns0\nsearch lan\n", True),
        ("# nameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver 127.0.0.1\n", False),
        ("nameserver ::1%lo\n", True),
        ("nameserver nonsense\n", False),
        ("", False),
    ],
)
def test_a_resolver_on_the_machines_loopback_is_asked_by_the_gateway(text: str, local: bool) -> None:
    assert resolver.is_local(text) is local
    assert resolver.inside(text).startswith("nameserver 10.79.0.1\n")
    assert "search" not in text or "search lan\n" in resolver.inside(text)
