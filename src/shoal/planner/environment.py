"""The variables that a replica finds: what Shoal injects, under what the user set."""

from __future__ import annotations

from collections.abc import Mapping

from shoal.model.app import App, Service
from shoal.model.topology import EdgeMap

LOOPBACK = "127.0.0.1"


def variable_prefix(service: str) -> str:
    """`product-service` -> `PRODUCT_SERVICE`. Injective over an app: loading refuses `a-b` beside `a_b`."""
    return service.upper().replace("-", "_")


def references(app: App, caller: Service, edges: EdgeMap, *, named: bool) -> dict[str, dict[str, str]]:
    """What `${x.url}`, `${x.host}`, `${x.port}` and `${x.address}` stand for, by callee.

    `named`: the caller's processes have a private hosts file, so that a callee's host is its name; else its host is the
    address of the edge. Both tell Envoy who calls.
    """
    found: dict[str, dict[str, str]] = {}
    for callee in caller.calls:
        port = app.service(callee).port
        if port is None:
            continue
        host = callee if named else edges.address(caller.name, callee)
        found[callee] = {"url": f"http://{host}:{port}", "host": host, "port": str(port), "address": f"{host}:{port}"}
    return found


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
        if callee == service.name:
            continue
        prefix = variable_prefix(callee)
        env |= {f"{prefix}_URL": values["url"], f"{prefix}_HOST": values["host"], f"{prefix}_PORT": values["port"]}
    return env


def fill_in(text: str, values: Mapping[str, Mapping[str, str]], *, port: int | None) -> str:
    """Replaces `${port}` and `${service.url|host|port|address}`; leaves every other `${...}` as it is."""
    out = text
    if port is not None:
        out = out.replace("${port}", str(port))
    for service, parts in values.items():
        for part, value in parts.items():
            out = out.replace(f"${{{service}.{part}}}", value)
    return out
