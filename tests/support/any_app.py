"""Apps as hypothesis draws them: every kind of service, port, route and network that the model has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from shoal.model.app import App, Command, External, Gateway, Network, Port, Protocol, PythonApp, Route, Service
from tests.support.any_policy import any_policies

NAMES = ("a", "b-b", "c", "0", "x" * 63)
NUMBERS = (80, 443, 3000, 3001, 65535)
HOSTS = ("10.0.0.7", "2001:db8::7", "db.example.com", "localhost")
CA = "/etc/ssl/certs/ca-certificates.crt"
EGRESS = (None, (), ("api.example.com:443", "*.example.com:80"), ("[2001:db8::7]:80", "db.example.com:5432"))
TEXTS = ("localhost", "shop.example.com:8080", "100%", "[::1]:3000")
PATHS = ("/", "/x", "/x/y", "/z+(%41)", "/100%", "/~a.b")

protocols = st.sampled_from(Protocol)


@st.composite
def any_apps(draw: st.DrawFn) -> App:
    """Valid in all that the mesh relies on: names are unique, no number is published twice, routes lead to HTTP."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    published: set[int] = set()
    services = tuple(_service(draw, name, names, published) for name in names)
    # Only what has a port can be called.
    ports = {service.name for service in services if service.port is not None}
    services = tuple(_calling_only(service, ports) for service in services)
    services = tuple(replace(s, edges=tuple((c, p) for c in s.calls if (p := draw(any_policies)))) for s in services)
    return App(name="app", services=services, gateway=_gateway(draw, services), dev=draw(st.booleans()))


def _service(draw: st.DrawFn, name: str, names: list[str], published: set[int]) -> Service:
    outside = draw(st.booleans()) and draw(st.booleans())
    number = draw(st.sampled_from(NUMBERS)) if outside else draw(st.none() | st.sampled_from(NUMBERS))
    network = Network.HOST if outside else draw(st.sampled_from(Network))
    tls = draw(st.booleans()) and Path(CA).exists()
    workload = (
        External(host=draw(st.sampled_from(HOSTS)), port=draw(st.sampled_from(NUMBERS)), tls=tls, ca=CA if tls else "")
        if outside
        else draw(st.sampled_from((Command(argv=("x",)), PythonApp(module="m", attribute="app"))))
    )
    further = draw(st.dictionaries(st.sampled_from(("grpc", "admin")), st.sampled_from(NUMBERS), max_size=2))
    taken = {number}
    ports = []
    for key, other in further.items() if number is not None else ():
        if other not in taken:
            taken.add(other)
            ports.append(
                Port(name=key, number=other, protocol=draw(protocols), publish=_publish(draw, other, published))
            )
    return Service(
        name=name,
        workload=workload,
        folder="/",
        port=number,
        publish=number is not None and _publish(draw, number, published),
        protocol=draw(protocols),
        ports=tuple(ports),
        calls=tuple(draw(st.lists(st.sampled_from(names), max_size=3, unique=True))),
        rewrite_host=draw(st.none() | st.sampled_from(TEXTS)),
        network=network,
        egress=draw(st.sampled_from(EGRESS)) if network is Network.OWN else None,
        traffic=draw(any_policies),
        loopback=network is Network.OWN and draw(st.booleans()),
    )


def _publish(draw: st.DrawFn, number: int, published: set[int]) -> bool:
    if number in published or not draw(st.booleans()):
        return False
    published.add(number)
    return True


def _calling_only(service: Service, ports: set[str]) -> Service:
    return replace(service, calls=tuple(callee for callee in service.calls if callee in ports))


def _gateway(draw: st.DrawFn, services: tuple[Service, ...]) -> Gateway | None:
    reachable = [
        (service.name, port.name)
        for service in services
        for port in service.every_port
        if port.protocol is not Protocol.TCP and (port.name or port.number == service.port)
    ]
    if not reachable or draw(st.booleans()):
        return None
    drawn = draw(
        st.dictionaries(
            st.tuples(st.none() | st.just("h.test"), st.sampled_from(PATHS)),
            st.tuples(st.sampled_from(reachable), st.none() | st.sampled_from(("/", "/v2", "/a%b"))),
            min_size=1,
            max_size=4,
        )
    )
    routes = tuple(
        Route(service=service, port=port, host=host, path=path, rewrite=rewrite)
        for (host, path), ((service, port), rewrite) in drawn.items()
    )
    return Gateway(port=8088, routes=routes, trusted_proxies=draw(st.sampled_from(((), ("127.0.0.1/32", "::1/128")))))
