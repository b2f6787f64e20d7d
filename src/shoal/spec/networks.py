"""`network` and `listen`: where a service's processes run, and where they listen there."""

from __future__ import annotations

from typing import TypedDict

from shoal.model.app import Network
from shoal.spec.document import Loc
from shoal.spec.review import Review
from shoal.spec.schema import ServiceFile


class Networked(TypedDict):
    """The fields of a `Service` that come of it."""

    network: Network
    listen: int | None
    loopback: bool
    egress: tuple[str, ...] | None


def networked(review: Review, loc: Loc, service: ServiceFile) -> Networked:
    network = Network(service.network)
    if service.listen is not None:
        if network is Network.HOST and review.sound(*loc, "network"):
            review.at_key((*loc, "listen"), "needs a network of its own", "add 'network: own', or listen on $PORT")
        elif service.run is not None or service.static is not None:
            what = "run" if service.run is not None else "static"
            review.at_key((*loc, "listen"), f"a '{what}' service is served where Shoal says", "remove it")
    if service.egress is not None and network is Network.HOST and review.sound(*loc, "network"):
        message = "cannot hold a service back that shares the machine's network"
        review.at_key((*loc, "egress"), message, "add 'network: own', or remove it")
    written = str(service.listen or "")
    host, _, port = written.rpartition(":")
    return Networked(
        network=network,
        listen=int(port) if port else None,
        loopback=host != "",
        egress=None if service.egress is None else tuple(service.egress),
    )
