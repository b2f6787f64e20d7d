"""How services are reached: their ports, who is bound for people, and what leads there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from shoal.model.app import Port, Protocol, Route
from shoal.spec import references
from shoal.spec.document import Loc
from shoal.spec.outside import address_of
from shoal.spec.problems import did_you_mean, quoted
from shoal.spec.review import Review
from shoal.spec.schema import AppFile, RouteFile, ServiceFile, is_label
from shoal.spec.traffic import KEYS

_OF_EXTERNAL = ("external", "port", "protocol", "publish", "rewrite_host")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    """A port, and whether people reach it, as far as the file says so."""

    loc: Loc
    port: Port
    publish: bool | None


class Ports:
    """The ports of every service of a file. Two claims of one number are a problem; a default never is."""

    def __init__(self, review: Review, file: AppFile) -> None:
        self._review = review
        doors = {name: list(self._doors(name, service)) for name, service in file.services.items()}
        published = self._published(file, doors)
        self._of = {
            name: tuple(replace(door.port, publish=(name, door.port.number) in published) for door in some)
            for name, some in doors.items()
        }
        self._prefixes: dict[str, str] = {name.replace("-", "_"): f"service '{name}'" for name in file.services}
        for name, service in file.services.items():
            self._check(name, service)

    def of(self, service: str) -> tuple[Port, ...]:
        """The main one first; empty: a worker, or a service that the file does not have."""
        return self._of.get(service, ())

    def names(self) -> dict[str, tuple[str, ...]]:
        """The names of the ports that have one, by service."""
        return {service: tuple(port.name for port in some if port.name) for service, some in self._of.items()}

    def sound(self, service: str) -> bool:
        """Whether what was read is all that was written."""
        return all(self._review.sound("services", service, key) for key in ("port", "ports", "external"))

    def _doors(self, name: str, service: ServiceFile) -> list[_Door]:
        loc: Loc = ("services", name)
        found: list[_Door] = []
        number = service.port
        if number is None and service.external is not None and (outside := address_of(service.external)) is not None:
            number = outside.port
        if number is not None:
            main = Port(name="", number=number, protocol=Protocol(service.protocol))
            found.append(_Door(loc=(*loc, "port"), port=main, publish=service.publish))
        for key, written in service.ports.items():
            here: Loc = (*loc, "ports", key)
            if written.port is None:
                if self._review.sound(*here):
                    self._review.at_key(here, "'port' is missing", "add its number")
                continue
            publish = written.publish
            if publish is None and (not found or service.publish is False):
                publish = service.publish
            port = Port(name=key, number=written.port, protocol=Protocol(written.protocol))
            found.append(_Door(loc=here, port=port, publish=publish))
        return found

    def _published(self, file: AppFile, doors: dict[str, list[_Door]]) -> set[tuple[str, int]]:
        wanted = Counter(door.port.number for some in doors.values() for door in some)
        claims: dict[int, str] = {}
        if file.gateway is not None and file.gateway.port is not None:
            wanted[file.gateway.port] += 1
            claims[file.gateway.port] = "the gateway"
        found: set[tuple[str, int]] = set()
        for name, some in doors.items():
            service = file.services[name]
            if service.publish and not some and self.sound(name):
                self._review.at_key(("services", name, "publish"), "there is no port to publish", "add 'port'")
            for door in some:
                number = door.port.number
                if door.publish:
                    holder = claims.setdefault(number, f"'{name}'")
                    if holder != f"'{name}'":
                        self._review.at_key(
                            ("services", name, "publish") if door is some[0] else (*door.loc, "publish"),
                            f"port {number} is also published by {holder}",
                            "publish one of them, or give this one another port",
                        )
                    found.add((name, number))
                elif door.publish is None and wanted[number] == 1 and service.external is None:
                    found.add((name, number))
        return found

    def _check(self, name: str, service: ServiceFile) -> None:
        loc: Loc = ("services", name)
        numbers: dict[int, str] = {service.port: "'port'"} if service.port is not None else {}
        for key, written in service.ports.items():
            here: Loc = (*loc, "ports", key)
            if not is_label(key):
                self._review.at_key(here, "the name of a port is made of lower case letters, digits and '-'")
            elif key in references.PARTS:
                self._review.at_key(here, f"'{key}' stands for a part of an address", "choose another name")
            prefix, own = f"{name}_{key}".replace("-", "_"), f"port '{key}' of '{name}'"
            owner = self._prefixes.setdefault(prefix, own)
            if owner != own:
                message = f"its variables, {prefix.upper()}_URL and so on, would be those of {owner}"
                self._review.at_key(here, message, "choose another name")
            if written.port is not None:
                holder = numbers.setdefault(written.port, f"'{key}'")
                if holder != f"'{key}'":
                    self._review.at_value(here, f"{written.port} is the number of {holder} too", "choose another")
        if service.ports and service.port is None and self._is_written(name, "protocol"):
            self._review.at_key(
                (*loc, "protocol"), "is that of 'port', and there is none", "write it in 'ports', at the port's name"
            )
        if service.external is not None:
            self._check_external(name, service)
        main = next(iter(self.of(name)), None)
        if service.run is not None and main is not None and main.protocol is Protocol.TCP:
            here = (*loc, "ports", main.name) if main.name else (*loc, "protocol")
            self._review.at_value(here, "an ASGI or WSGI application speaks HTTP", "remove it, or use 'command'")

    def _check_external(self, name: str, service: ServiceFile) -> None:
        for loc in list(self._review.document.places):
            if len(loc) == 3 and loc[:2] == ("services", name) and loc[2] not in (*_OF_EXTERNAL, *KEYS):
                self._review.at_key(
                    loc,
                    f"Shoal does not run what is 'external', so it has no '{loc[2]}'",
                    "remove it; what is there: " + ", ".join((*_OF_EXTERNAL, "timeout", "retries and the like")),
                )

    def _is_written(self, service: str, key: str) -> bool:
        return ("services", service, key) in self._review.document.places


def route(review: Review, loc: Loc, written: RouteFile, host: str | None, path: str, ports: tuple[Port, ...]) -> Route:
    """`loc`: of the route; `ports`: of its service."""
    port = next((port for port in ports if not written.port or port.name == written.port), None)
    if port is None and ports and written.port:
        names = [port.name for port in ports if port.name]
        hint = did_you_mean(written.port, names, otherwise="its ports have names in 'ports'")
        review.at_value((*loc, "port"), f"'{written.service}' has no port {quoted(written.port)}", hint)
    if port is not None and port.protocol is Protocol.TCP:
        review.at_value(loc, f"'{written.service}' speaks TCP there, which has no paths", "publish its port instead")
    if written.strip and written.rewrite:
        review.at_key((*loc, "strip"), "'rewrite' takes the path away too", "remove one")
    if written.strip and path == "/":
        review.at_key((*loc, "strip"), "there is nothing to take away from /", "remove it")
    if written.rewrite and any(c in written.rewrite for c in "?*{}\\"):
        review.at_value((*loc, "rewrite"), "must be a path, without ? and wildcards")
    return Route(
        service=written.service or "",
        path=path,
        host=host,
        port=port.name if port is not None and ports and port is not ports[0] else "",
        rewrite="/" if written.strip else written.rewrite,
    )
