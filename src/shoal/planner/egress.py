"""The variables by which programs find the way out that `egress:` allows them."""

from __future__ import annotations

from collections.abc import Mapping

from shoal.model.app import App, Network, Service
from shoal.model.topology import EGRESS, EdgeMap

PORT = 3128
"""`mesh.defaults.EGRESS_PORT`, which no planner may know of; a test compares them."""
_HOPS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def proxy_variables(app: App, service: Service, edges: EdgeMap, user: Mapping[str, str]) -> dict[str, str]:
    """In both cases of letters, because programs read either; where the user set one in either case, none is ours."""
    if not service.egress or service.network is not Network.OWN:
        return {}
    proxy = f"http://{edges.address(service.name, EGRESS)}:{PORT}"
    # Other services are called by name, and those that it has not declared by name are refused with better words.
    direct = ",".join(["localhost", "127.0.0.1", "::1", *(peer.name for peer in app.services)])
    found: dict[str, str] = {}
    for name in _HOPS:
        if name not in user and name.lower() not in user:
            found[name] = found[name.lower()] = direct if name == "NO_PROXY" else proxy
    return found
