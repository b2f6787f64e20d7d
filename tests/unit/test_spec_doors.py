# ruff: noqa: E501  a table with one case a line
"""Ports, protocols, health and routes in the app file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.model.app import App, Command, External, Gateway, HealthCheck, Port, Protocol, Route, Service
from shoal.model.topology import DENIED, Edge, EdgeMap
from shoal.planner.environment import fill_in, injected, references
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError
from shoal.spec.wire import decode, encode

H, G, T = Protocol.HTTP, Protocol.GRPC, Protocol.TCP


def load(text: str) -> App:
    return load_text(text.encode(), "shoal.yaml", Path("/srv"), {}, "box")


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


def one(entry: str) -> Service:
    return load(f"services: {{web: {{command: x, {entry}}}}}").services[0]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("port: 3000", (Port(name="", number=3000, publish=True),)),
        ("port: 3000, protocol: tcp", (Port(name="", number=3000, protocol=T, publish=True),)),
        ("ports: {http: 3000, grpc: {port: 3001, protocol: grpc}}", (Port(name="http", number=3000, publish=True), Port(name="grpc", number=3001, protocol=G, publish=True))),
        ("port: 3000, ports: {admin: 3001}", (Port(name="", number=3000, publish=True), Port(name="admin", number=3001, publish=True))),
        ("port: 3000, publish: false, ports: {admin: 3001}", (Port(name="", number=3000), Port(name="admin", number=3001))),
        ("port: 3000, ports: {admin: {port: 3001, publish: false}}", (Port(name="", number=3000, publish=True), Port(name="admin", number=3001))),
        ("publish: false, ports: {a: 3000, b: {port: 3001, publish: true}}", (Port(name="a", number=3000), Port(name="b", number=3001, publish=True))),
    ],
)  # fmt: skip
def test_ports_are_read_with_the_main_one_first(entry: str, expected: tuple[Port, ...]) -> None:
    service = one(entry)
    assert service.every_port == expected
    assert decode(App, encode(App(name="a", services=(service,)))).services[0] == service


def test_a_number_that_two_ports_want_is_published_for_none_unless_one_says_so() -> None:
    app = load(
        "services: {a: {command: x, ports: {web: 80, admin: 9000}}, b: {command: x, ports: {web: 81, admin: 9000}}}"
    )
    assert [[p.publish for p in s.every_port] for s in app.services] == [[True, False], [True, False]]
    app = load("services: {a: {command: x, ports: {admin: {port: 9000, publish: true}}}, b: {command: x, port: 9000}}")
    assert [[p.publish for p in s.every_port] for s in app.services] == [[True], [False]]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("health: /up", "/up"),
        ("health: {path: /up}", "/up"),
        ("health: grpc", HealthCheck(grpc=True)),
        ("health: {path: /up, host: shop.example.com}", HealthCheck(path="/up", host="shop.example.com")),
        ("health: {path: /up, port: admin}", HealthCheck(path="/up", port="admin")),
        ("health: {port: admin}", HealthCheck(port="admin")),
        ("health: {command: 'redis-cli -p $PORT ping'}", HealthCheck(command=("/bin/sh", "-c", "redis-cli -p $PORT ping"))),
        ("health: {command: [check, '${port.admin}']}", HealthCheck(command=("check", "${port.admin}"))),
        ("health: {}", None),
    ],
)  # fmt: skip
def test_health_is_a_path_a_word_or_a_mapping(entry: str, expected: object) -> None:
    assert one(f"port: 3000, ports: {{admin: 3001}}, {entry}").health == expected


def test_a_worker_can_have_a_health_command() -> None:
    assert one("health: {command: [check]}").health == HealthCheck(command=("check",))


def test_an_external_service_has_a_name_and_nothing_that_runs() -> None:
    text = "services: {db: {external: 'db.example.com:5432', protocol: tcp}, v6: {external: '[::1]:80', port: 8080}}"
    db, v6 = load(text).services
    assert db.workload == External(host="db.example.com", port=5432)
    assert db.every_port == (Port(name="", number=5432, protocol=T),)
    assert db.replicas == 0
    assert v6.workload == External(host="::1", port=80)
    assert v6.port == 8080
    assert str(v6.workload) == "[::1]:80"


def test_routes_may_name_a_port_and_change_the_path() -> None:
    app = load(
        """
services: {web: {command: x, ports: {http: 3000, grpc: {port: 3001, protocol: grpc}}, rewrite_host: localhost}}
gateway:
  port: 8080
  routes:
    /: web
    /api: {service: web, strip: true}
    /old: {service: web, rewrite: /v2}
    /demo.Echo: {service: web, port: grpc}
"""
    )
    assert app.services[0].rewrite_host == "localhost"
    assert app.gateway == Gateway(
        port=8080,
        routes=(
            Route(service="web", path="/"),
            Route(service="web", path="/api", rewrite="/"),
            Route(service="web", path="/old", rewrite="/v2"),
            Route(service="web", path="/demo.Echo", port="grpc"),
        ),
    )


PORTS = "ports: {http: 3000, admin: 3001}"
WRONG = [
    ("port: 1, protocol: h2c", "services.web.protocol: must be http, grpc or tcp; did you mean grpc?"),
    ("ports: {a: {protocol: tcp}}", "services.web.ports.a: 'port' is missing; add its number"),
    ("ports: {a: 0}", "services.web.ports.a.port: must be a whole number from 1 to 65535"),
    ("ports: {a: {port: 1, prot: tcp}}", "services.web.ports.a.prot: unknown key; did you mean 'port'?"),
    ("ports: {A: 1}", "services.web.ports.A: the name of a port is made of lower case letters, digits and '-'"),
    ("ports: {url: 1}", "services.web.ports.url: 'url' stands for a part of an address; choose another name"),
    ("port: 1, ports: {a: 1}", "services.web.ports.a: 1 is the number of 'port' too; choose another"),
    ("ports: {a: 1}, protocol: tcp", "services.web.protocol: is that of 'port', and there is none; write it in 'ports', at the port's name"),
    (f"{PORTS}, health: {{path: /, grpc: true}}", "services.web.health: there is one way to ask, and here are path and grpc; remove one"),
    (f"{PORTS}, health: {{port: admim}}", "services.web.health.port: it has no port 'admim'; did you mean 'admin'?"),
    (f"{PORTS}, health: {{pth: /}}", "services.web.health.pth: unknown key; did you mean 'path'?"),
    (f"{PORTS}, health: up", "services.web.health: must be a path that starts with /; write /up"),
    ("port: 1, protocol: grpc, health: /up", "services.web.health: a grpc port has no paths; write 'health: grpc'"),
    ("port: 1, protocol: tcp, health: grpc", "services.web.health: a tcp port has no gRPC health service; say protocol: grpc"),
    ("health: /up", "services.web.health: without a port there is nothing to ask; add 'port', name a command, or remove it"),
    (f"{PORTS}, env: {{A: '${{port.admim}}'}}", "services.web.env.A: the service has no port 'admim'; did you mean 'admin'?"),
    ("port: 1, rewrite_host: 'a b'", "services.web.rewrite_host: must be a host as it stands in a request, such as localhost or example.com:8080"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "expected"), WRONG)
def test_what_is_wrong_is_told_at_its_place(entry: str, expected: str) -> None:
    [problem] = problems(f"services: {{web: {{command: x, {entry}}}}}")
    assert problem.endswith(expected), problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {run: 'm:app', port: 1, protocol: tcp}", "services.a.protocol: an ASGI or WSGI application speaks HTTP; remove it, or use 'command'"),
        ("a: {external: 'x:80'}, b: {command: x, after: [a]}", "'a' is external: nobody knows when it is ready; remove this; it may be called"),
        ("a: {external: example.com}", "services.a.external: must be host:port"),
        ("a: {external: 'http://example.com:80/'}", "services.a.external: is a URL, and host:port is needed; write example.com:80"),
        ("a: {external: 'example.com:99999'}", "services.a.external: must be host:port, with a port from 1 to 65535"),
        ("a: {external: 'example.com:80', replicas: 2}", "services.a.replicas: Shoal does not run what is 'external', so it has no 'replicas'; remove it; what is there: external, port, protocol, publish, rewrite_host"),
        ("a: {command: x, port: 1}, b: {command: x, calls: [a], env: {A: '${a.admin.url}'}}", "services.b.env.A: 'a' has no port 'admin'; give it a name in 'ports'"),
        ("a: {command: x, ports: {b: 1}}, a-b: {command: x}", "services.a.ports.b: its variables, A_B_URL and so on, would be those of service 'a-b'; choose another name"),
    ],
)  # fmt: skip
def test_what_is_wrong_between_services_is_told_at_its_place(text: str, expected: str) -> None:
    [problem] = problems(f"services: {{{text}}}")
    assert expected in problem


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("{}", "gateway.routes.'/api': 'service' is missing"),
        ("{service: web, strip: true, rewrite: /v2}", "'rewrite' takes the path away too; remove one"),
        ("{service: web, rewrite: v2}", "must be a path that starts with /; write /v2"),
        ("{service: web, rewrite: '/v2?x'}", "must be a path, without ? and wildcards"),
        ("{service: web, port: grcp}", "'web' has no port 'grcp'; did you mean 'grpc'?"),
        ("{service: web, part: grpc}", "unknown key; did you mean 'port'?"),
        ("{service: cache}", "'cache' speaks TCP there, which has no paths; publish its port instead"),
    ],
)
def test_what_is_wrong_with_a_route_is_told_at_its_place(route: str, expected: str) -> None:
    services = "web: {command: x, ports: {http: 1, grpc: {port: 2, protocol: grpc}}}, cache: {command: x, port: 3, protocol: tcp}"
    [problem] = problems(f"services: {{{services}}}\ngateway: {{port: 8080, routes: {{/api: {route}}}}}")
    assert expected in problem


def test_peers_are_found_by_variables_with_the_scheme_that_clients_know() -> None:
    def service(name: str, *ports: Port, **more: object) -> Service:
        main, further = ports[0], ports[1:]
        return Service(
            name=name,
            workload=Command(argv=("x",)),
            folder="/",
            port=main.number,
            port_name=main.name,
            protocol=main.protocol,
            ports=further,
            **more,  # type: ignore[arg-type]
        )

    users = service("users", Port(name="http", number=3000), Port(name="grpc", number=3001, protocol=G))
    cache = service("redis-cache", Port(name="", number=7000, protocol=T))
    db = service("db", Port(name="", number=5432, protocol=T))
    queue = service("queue", Port(name="", number=7001, protocol=T))
    web = service("web", Port(name="", number=80), calls=("users", "redis-cache", "db", "queue"))
    app = App(name="a", services=(web, users, cache, db, queue))
    pairs = [("web", callee) for callee in (*web.calls, DENIED)]
    edges = EdgeMap(network=77, edges={p: Edge(caller=p[0], callee=p[1], number=n) for n, p in enumerate(pairs, 1)})
    env = injected(app, web, edges, named=True, replica="web-r1", data_dir="/d")
    assert {key: value for key, value in env.items() if not key.startswith("SHOAL")} == {
        "USERS_URL": "http://users:3000",
        "USERS_HOST": "users",
        "USERS_PORT": "3000",
        "USERS_HTTP_URL": "http://users:3000",
        "USERS_HTTP_HOST": "users",
        "USERS_HTTP_PORT": "3000",
        "USERS_GRPC_URL": "http://users:3001",
        "USERS_GRPC_HOST": "users",
        "USERS_GRPC_PORT": "3001",
        "REDIS_CACHE_URL": "redis://redis-cache:7000",
        "REDIS_CACHE_HOST": "redis-cache",
        "REDIS_CACHE_PORT": "7000",
        "DB_URL": "postgres://db:5432",
        "DB_HOST": "db",
        "DB_PORT": "5432",
        "QUEUE_URL": "tcp://queue:7001",
        "QUEUE_HOST": "queue",
        "QUEUE_PORT": "7001",
    }
    values = references(app, web, edges, named=False)
    text = "${users.grpc.address} ${users.url} ${port} ${port.admin} ${other}"
    filled = fill_in(text, values, port=20000, ports={"admin": 20001})
    assert filled == "127.77.0.1:3001 http://127.77.0.1:3000 20000 20001 ${other}"
