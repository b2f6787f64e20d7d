"""`health`, `startup` and `liveness` of a service: what may be asked of which port."""

from __future__ import annotations

from dataclasses import replace

from shoal.model.app import Port, Protocol
from shoal.model.health import HealthCheck, Probe
from shoal.spec.document import Loc
from shoal.spec.pace import pause_s
from shoal.spec.problems import did_you_mean, quoted
from shoal.spec.review import Review
from shoal.spec.schema import HealthFile

KEYS = {"startup": Probe.STARTUP, "health": Probe.READINESS, "liveness": Probe.LIVENESS}
_WAYS = ("path", "grpc", "tcp", "command")


def probe(
    review: Review,
    loc: Loc,
    key: str,
    written: HealthFile | None,
    ports: tuple[Port, ...],
    command: tuple[str, ...],
) -> HealthCheck | None:
    """`loc`: of the service; `key`: one of `KEYS`. `command`: the one in `written`, with what is known now filled in.
    None: nothing was written, or nothing but what is so anyway."""
    if written is None:
        return None
    here = (*loc, key)
    port = _port(review, loc, here, written, ports)
    _check_way(review, here, written, port)
    if written.successes not in (None, 1) and KEYS[key] is not Probe.READINESS:
        hint = f"remove it; how often it may fail is 'failures' of {key}"
        review.at_value((*here, "successes"), f"one success is enough for {key}", hint)
    check = HealthCheck(
        path=written.path,
        grpc=bool(written.grpc),
        tcp=bool(written.tcp),
        command=command,
        port=port.name if port is not None and ports and port is not ports[0] else "",
        host=written.host or "localhost",
        interval_s=_seconds(written.interval),
        timeout_s=_seconds(written.timeout),
        failures=written.failures,
        successes=None if written.successes == 1 else written.successes,
        delay_s=_seconds(written.delay),
    )
    return None if key == "health" and check == HealthCheck() else check


def readiness(check: HealthCheck | None) -> str | HealthCheck | None:
    """A path alone stays one: so it is shown, and so older states have it."""
    alone = check is not None and check.path is not None and replace(check, path=None) == HealthCheck()
    return check.path if check is not None and alone else check


def _seconds(written: str | int | float | None) -> float | None:
    return None if written is None else pause_s(written)


def _port(review: Review, loc: Loc, here: Loc, written: HealthFile, ports: tuple[Port, ...]) -> Port | None:
    """The one that is asked."""
    if not ports and not written.command and all(review.sound(*loc, key) for key in ("port", "ports")):
        review.at_key(here, "without a port there is nothing to ask", "add 'port', name a command, or remove it")
    port = next((port for port in ports if not written.port or port.name == written.port), None)
    if port is None and ports and written.port:
        names = [port.name for port in ports if port.name]
        hint = did_you_mean(written.port, names, otherwise="its ports have names in 'ports'")
        review.at_value((*here, "port"), f"it has no port {quoted(written.port)}", hint)
    return port


def _check_way(review: Review, here: Loc, written: HealthFile, port: Port | None) -> None:
    ways = [key for key in _WAYS if getattr(written, key)]
    if len(ways) > 1:
        review.at_value(here, f"there is one way to ask, and here are {' and '.join(ways)}", "remove one")
    if port is not None and written.path and port.protocol is not Protocol.HTTP:
        hint = f"write '{here[-1]}: grpc'" if port.protocol is Protocol.GRPC else "remove it, or name a command"
        review.at_value(here, f"a {port.protocol} port has no paths", hint)
    if port is not None and written.grpc and port.protocol is Protocol.TCP:
        review.at_value(here, "a tcp port has no gRPC health service", "say protocol: grpc")
