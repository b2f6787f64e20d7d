"""The variables that a replica finds: what Shoal injects, under what the user set."""

from __future__ import annotations

from collections.abc import Mapping

from shoal.model.app import App, Port, Protocol, Service
from shoal.model.topology import EdgeMap

LOOPBACK = "127.0.0.1"


def variable_prefix(service: str) -> str:
    """`product-service` -> `PRODUCT_SERVICE`, `users.grpc` (its port `grpc`) -> `USERS_GRPC`. Injective over an app:
    loading refuses a service `users-grpc` beside that."""
    return service.upper().replace("-", "_").replace(".", "_")


def references(app: App, caller: Service, edges: EdgeMap, *, named: bool) -> dict[str, dict[str, str]]:
    """What `${x.url}`, `${x.host}`, `${x.port}` and `${x.address}` stand for, by callee: `x` for its main port,
    `x.metrics` for a port of that name.

    `named`: the caller's processes have a private hosts file, so that a callee's host is its name; else its host is the
    address of the edge. Both tell Envoy who calls.
    """
    found: dict[str, dict[str, str]] = {}
    for callee in caller.calls:
        host = callee if named else edges.address(caller.name, callee)
        service = app.service(callee)
        for port in service.every_port:
            address = f"{host}:{port.number}"
            values = {
                "url": f"{url_scheme(callee, port)}://{address}",
                "host": host,
                "port": str(port.number),
                "address": address,
            }
            if port.number == service.port:
                found[callee] = values
            if port.name:
                found[f"{callee}.{port.name}"] = values
    return found


def url_scheme(service: str, port: Port) -> str:
    """`http`, also for gRPC. Of a TCP port the one that clients know: told by the names, else by the usual number."""
    if port.protocol is not Protocol.TCP:
        return "http"
    words = [*port.name.split("-"), *service.split("-")]
    by_name = next((_SCHEMES[word] for word in words if word in _SCHEMES), None)
    return by_name or _SCHEME_OF_PORT.get(port.number, "tcp")


_SCHEMES = {
    "redis": "redis",
    "valkey": "redis",
    "postgres": "postgres",
    "postgresql": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "mongo": "mongodb",
    "mongodb": "mongodb",
    "rabbitmq": "amqp",
    "amqp": "amqp",
    "nats": "nats",
    "mqtt": "mqtt",
}
_SCHEME_OF_PORT = {6379: "redis", 5432: "postgres", 3306: "mysql", 27017: "mongodb", 5672: "amqp", 4222: "nats"}


def injected(app: App, service: Service, edges: EdgeMap, *, named: bool, replica: str, data_dir: str) -> dict[str, str]:
    """All that Shoal adds to a replica's environment but `PORT`. Never a service's own `X_PORT`: programs read that as
    the port to listen on."""
    env = {
        "SHOAL_APP": app.name,
        "SHOAL_SERVICE": service.name,
        "SHOAL_REPLICA": replica,
        "SHOAL_DATA_DIR": data_dir,
    }
    for callee, values in references(app, service, edges, named=named).items():
        if callee.partition(".")[0] == service.name:
            continue
        prefix = variable_prefix(callee)
        env |= {f"{prefix}_URL": values["url"], f"{prefix}_HOST": values["host"], f"{prefix}_PORT": values["port"]}
    return env


def port_variable(port: str) -> str:
    """`PORT_METRICS`: where a replica should listen for its further port `metrics`."""
    return f"PORT_{variable_prefix(port)}"


def fill_in(
    text: str, values: Mapping[str, Mapping[str, str]], *, port: int | None, ports: Mapping[str, int] | None = None
) -> str:
    """Replaces `${port}`, `${port.metrics}` and `${service.url|host|port|address}`; leaves every other `${...}` as it
    is. `ports`: the further ones, by their names."""
    out = text
    if port is not None:
        out = out.replace("${port}", str(port))
    for name, number in (ports or {}).items():
        out = out.replace(f"${{port.{name}}}", str(number))
    for service, parts in values.items():
        for part, value in parts.items():
            out = out.replace(f"${{{service}.{part}}}", value)
    return out
