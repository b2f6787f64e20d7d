"""One readiness probe: an HTTP/1.1 request, and what its answer means."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass

from shoal.engines.local import ownership
from shoal.model.replica import Address, TcpAddress, UnixAddress
from shoal.planner.environment import LOOPBACK

TIMEOUT_S = 1.0
_HEAD_MAX = 16_384
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r|$)")


@dataclass(frozen=True, slots=True)
class Result:
    ready: bool
    detail: str = ""
    """Why not, in words: `connection refused`, `HTTP 503 on /healthz`."""


READY = Result(True)
NOT_YET = Result(False, "does not listen yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is probed."""

    address: Address
    health: str | None
    """Ready: it answers 200 to 399 on this path. None: ready when it answers `/` with anything below 500."""
    session: int | None = None
    """The pid of the replica: its processes are those of the session that it leads."""


async def probe(target: Target, *, timeout_s: float = TIMEOUT_S) -> Result:
    """Asks once. Raises nothing: whatever goes wrong is the detail."""
    try:
        async with asyncio.timeout(timeout_s):
            return judge(await _ask(target), target.health)
    except TimeoutError:
        return Result(False, f"no answer in {timeout_s:g} s")
    except ConnectionRefusedError:
        return Result(False, "connection refused")
    except FileNotFoundError:
        return NOT_YET
    except (ConnectionResetError, BrokenPipeError):
        return judge(b"", target.health)
    except OSError as error:
        return Result(False, (error.strerror or str(error) or type(error).__name__).lower())


async def look_closer(target: Target, result: Result) -> Result:
    """The result, corrected or explained by who really listens. Reads /proc: for the first successes and for failures.

    A server with SO_REUSEPORT shares its port with strangers, and one that hard-codes a port is somewhere else.
    """
    session = target.session
    match target.address:
        case TcpAddress(port=port) if session is not None:
            return await asyncio.to_thread(_check_port, port, session, result)
        case UnixAddress() if session is not None and result == NOT_YET:
            return await asyncio.to_thread(_explain_silence, session, result)
        case _:
            return result


def judge(head: bytes, health: str | None) -> Result:
    """`head`: what came back, at least up to the end of the first line; empty: closed without a word."""
    if not head:
        return Result(False, "closed the connection without an answer")
    found = _STATUS.match(head)
    if found is None:
        first = head.split(b"\n", 1)[0][:40].decode("ascii", "replace").strip()
        return Result(False, f"the answer is not HTTP: {first!r}")
    status = int(found[1])
    if health is not None:
        return READY if 200 <= status < 400 else Result(False, f"HTTP {status} on {health}")
    return READY if status < 500 else Result(False, f"HTTP {status} on /")


async def _ask(target: Target) -> bytes:
    address = target.address
    if isinstance(address, UnixAddress):
        reader, writer = await asyncio.open_unix_connection(address.path, limit=_HEAD_MAX)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=_HEAD_MAX)
    try:
        # Some frameworks refuse hosts that they do not know; all know localhost.
        path = target.health or "/"
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: shoal-probe\r\naccept: */*\r\n"
            "connection: close\r\n\r\n".encode("latin-1", "replace")
        )
        try:
            return await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError:
            return await reader.read(64)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _check_port(port: int, session: int, result: Result) -> Result:
    own = ownership.listeners_of(session)
    there = [listener for listener in own if listener.port == port]
    if any(listener.is_wildcard or listener.host == LOOPBACK for listener in there):
        return result
    if there:  # Node's `localhost` is [::1] on many machines
        return Result(False, f"listens on {there[0]} only; listen on {LOOPBACK} or 0.0.0.0")
    if own:
        return Result(False, f"listens on {_named(own)}, not on $PORT={port}")
    owner = ownership.owner_of(port)
    if owner is None or (owner.pid is not None and ownership.belongs_to(owner.pid, (session,))):
        return result  # nobody to blame: the probe itself says what is wrong
    return Result(False, f"port {port} is answered by {owner}, not by this replica")


def _explain_silence(session: int, result: Result) -> Result:
    own = ownership.listeners_of(session)
    if not own:
        return result
    guard = "does its module call app.run()? guard that with if __name__ == '__main__'"
    return Result(False, f"{result.detail}, but has opened {_named(own)}: {guard}")


def _named(listeners: list[ownership.Listener]) -> str:
    return ", ".join(sorted({str(listener) for listener in listeners}))
