"""Ports that an app needs on this machine and somebody else holds."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection

from shoal.engines.local import ownership
from shoal.engines.local.ownership import Listener, Owner
from shoal.model.app import App, Network, Port
from shoal.planner.environment import LOOPBACK


def taken_ports(app: App, own: Collection[int]) -> list[str]:
    """One line for each, with the way out. `own`: the leaders of our own processes; what they hold is no obstacle."""
    known = ownership.listeners()
    found: list[str] = []
    for wanted_by, setting, port, public in _wanted(app):
        # Published ports are bound on 127.0.0.1; every edge to the service on an address of its own.
        holder = _holder([one for one in known if one.port == port], own, public=public)
        if holder is not None:
            found.append(f"{wanted_by} wants port {port}, which {holder} holds; free it or change {setting}")
        elif not may_bind(port):
            found.append(
                f"{wanted_by} wants port {port}, which only root may use here; choose one from 1024 on for {setting}"
            )
    return found


def _wanted(app: App) -> list[tuple[str, str, int, bool]]:
    # What has a network of its own takes no port of the machine, but where somebody on the machine's network calls it.
    called = {callee for caller in app.services if caller.network is Network.HOST for callee in caller.calls}
    wanted = [
        (f"service {service.name!r}", f"{_setting(port)!r} of {service.name!r}", port.number, port.publish)
        for service in app.services
        for port in service.every_port
        if port.publish or service.network is Network.HOST or service.name in called
    ]
    if app.gateway is not None:
        wanted.append(("the gateway", "'port' of the gateway", app.gateway.port, True))
    return wanted


def _setting(port: Port) -> str:
    return f"ports.{port.name}" if port.name else "port"


def _holder(listeners: list[Listener], own: Collection[int], *, public: bool) -> Owner | None:
    for listener in listeners:
        in_the_way = listener.is_wildcard or (public and listener.host in (LOOPBACK, "::1"))
        if not in_the_way:
            continue
        owner = ownership.owner_by_inode(listener)
        if owner.pid is None or not (owner.pid in own or ownership.belongs_to(owner.pid, own)):
            return owner
    return None


def may_bind(port: int) -> bool:
    """Whether we have the right to; not whether it is free."""
    if port >= 1024:
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EPERM)
    return True
