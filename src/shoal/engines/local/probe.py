"""One probe: a question in the port's own protocol, or a command, and what the answer means."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from shoal.engines.local import asking, listening, ownership
from shoal.engines.local.networks.reach import Reach
from shoal.model.app import Protocol
from shoal.model.replica import Address, TcpAddress, UnixAddress
from shoal.planner.environment import LOOPBACK

TIMEOUT_S = 1.0
COMMAND_S = 5.0
"""How long a command may take; a Python alone takes a tenth of a second to start, more where many do."""
_HEAD_MAX = 16_384
_SETTINGS = b"\x04"
"""Type of the frame that an HTTP/2 server begins with; three bytes of length come before it."""
_QUEUE_FULL = (errno.EAGAIN, errno.ENOTCONN)
"""Of a Unix socket whose queue is full: connecting fails at once, or only seems to succeed."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r|$)")


@dataclass(frozen=True, slots=True)
class Result:
    ready: bool
    detail: str = ""
    """Why not, in words: `connection refused`, `HTTP 503 on /healthz`."""
    silent: bool = field(default=False, compare=False)
    """Nothing came back at all, and nobody refused: it may hang."""


READY = Result(True)
NOT_YET = Result(False, "does not listen yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is probed."""

    address: Address
    health: str | None
    """Ready: it answers 200 to 399 on this path. None: ready when it answers its protocol, which for HTTP is anything
    below 500 on `/`."""
    session: int | None = None
    """The pid of the replica: its processes are those of the session that it leads."""
    protocol: Protocol = Protocol.HTTP
    strict: bool = False
    """gRPC: its health service must say so."""
    host: str = "localhost"
    """Some frameworks refuse hosts that they do not know; all know localhost."""
    reach: Reach | None = None
    """How to get into its own network, where it has one."""
    quiet: bool = False
    """TCP: look whether it listens, without connecting. MySQL shuts out a host that connects a hundred times and says
    nothing, and others fill their logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A command that ends with 0 when the replica is ready."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: str


async def probe(target: Target, *, timeout_s: float = TIMEOUT_S) -> Result:
    """Asks once. Raises nothing: whatever goes wrong is the detail."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _probe(target, timeout_s)
    except TimeoutError:
        return Result(False, f"no answer in {timeout_s:g} s", silent=True)
    except ConnectionRefusedError:
        return Result(False, "connection refused")
    except FileNotFoundError:
        return NOT_YET
    except (ConnectionResetError, BrokenPipeError):
        return judge(b"", target.health)
    except OSError as error:
        if error.errno in _QUEUE_FULL:
            return Result(False, "accepts no more connections", silent=True)
        return Result(False, (error.strerror or str(error) or type(error).__name__).lower())


async def _probe(target: Target, timeout_s: float) -> Result:
    if target.health is not None:
        return judge(await _ask(target), target.health)
    match target.protocol:
        case Protocol.HTTP:
            return judge(await _ask(target), None)
        case Protocol.GRPC:
            from shoal.engines.local import probe_grpc  # an import of 0.1 s that most apps never need

            address = target.address
            async with contextlib.AsyncExitStack() as stack:
                if target.reach is not None and isinstance(address, TcpAddress):
                    address = await stack.enter_async_context(target.reach.bridged(address, limit=_HEAD_MAX))
                detail = await probe_grpc.why_not_ready(address, strict=target.strict, timeout_s=timeout_s)
            return Result(False, detail) if detail else READY
        case Protocol.TCP:
            return await _accepts(target)
        case _:
            assert_never(target.protocol)


async def _accepts(target: Target) -> Result:
    address = target.address
    if target.quiet and isinstance(address, TcpAddress):
        known = await listening.ports(_proc(target))
        if known:  # nothing: there is no /proc to look into
            return READY if address.port in known else Result(False, "does not listen any more")
    _, writer = await _connect(target)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return READY


async def run_command(ask: Ask, *, timeout_s: float = COMMAND_S) -> Result:
    """Runs it once, in a session of its own. Raises nothing."""
    name = ask.argv[2] if ask.argv[:2] == ("/bin/sh", "-c") else ask.argv[0]
    # Not a pipe: what the command leaves in the background would keep it open, and the answer waiting.
    with tempfile.TemporaryFile() as said:
        try:
            process = await asyncio.create_subprocess_exec(
                *ask.argv,
                env=dict(ask.env),
                cwd=ask.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        except OSError as error:
            return Result(False, f"{name} cannot be run: {(error.strerror or str(error)).lower()}")
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
        except TimeoutError:
            return Result(False, f"{name} did not end in {timeout_s:g} s", silent=True)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if code == 0:
            return READY
        said.seek(max(0, said.seek(0, os.SEEK_END) - _HEAD_MAX))
        last = said.read().decode("utf-8", "replace").strip().rpartition("\n")[2][:120]
    return Result(False, f"{name} ended with {code}" + (f": {last}" if last else ""))


async def look_closer(target: Target, result: Result) -> Result:
    """The result, corrected or explained by who really listens. Reads /proc: for the first successes and for failures.

    A server with SO_REUSEPORT shares its port with strangers, and one that hard-codes a port is somewhere else.
    """
    session = target.session
    match target.address:
        case TcpAddress() if target.reach is not None:
            return await asyncio.to_thread(_explain_own, target.address, target.reach.pid, result)
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
    if found is None and head[:1] == b"\0" and head[3:4] == _SETTINGS:
        return Result(False, "speaks HTTP/2 only; say protocol: grpc")
    if found is None:
        first = head.split(b"\n", 1)[0][:40].decode("ascii", "replace").strip()
        return Result(False, f"the answer is not HTTP: {first!r}")
    status = int(found[1])
    if health is not None:
        return READY if 200 <= status < 400 else Result(False, f"HTTP {status} on {health}")
    return READY if status < 500 else Result(False, f"HTTP {status} on /")


async def _ask(target: Target) -> bytes:
    question = asking.request(target.health or "/", target.host)
    if target.reach is None:
        return await asking.ask(target.address, question)
    reader, writer = await _connect(target)
    try:
        writer.write(question)
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


def _proc(target: Target) -> Path:
    """Whose `net` tells of the network that it is in."""
    return Path("/proc") if target.reach is None else Path(f"/proc/{target.reach.pid}")


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = target.address
    if target.reach is not None and isinstance(address, TcpAddress):
        return await target.reach.connect(address, limit=_HEAD_MAX)
    if isinstance(address, UnixAddress):
        return await asyncio.open_unix_connection(address.path, limit=_HEAD_MAX)
    return await asyncio.open_connection(address.host, address.port, limit=_HEAD_MAX)


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


def _explain_own(address: TcpAddress, pid: int, result: Result) -> Result:
    """In a network of its own nobody else can be in its place."""
    own = ownership.listeners(Path(f"/proc/{pid}"))
    if result.ready or not own:
        return result
    there = [listener for listener in own if listener.port == address.port]
    if there and all(listener.host == LOOPBACK for listener in there) and address.host != LOOPBACK:
        return Result(False, f"listens on {there[0]} only; say listen: {there[0]}")
    if there:
        return result
    port = next((listener.port for listener in own), 0)
    return Result(False, f"listens on {_named(own)}, not on port {address.port}; say listen: {port}")


def _explain_silence(session: int, result: Result) -> Result:
    own = ownership.listeners_of(session)
    if not own:
        return result
    guard = "does its module call app.run()? guard that with if __name__ == '__main__'"
    return Result(False, f"{result.detail}, but has opened {_named(own)}: {guard}")


def _named(listeners: list[ownership.Listener]) -> str:
    return ", ".join(sorted({str(listener) for listener in listeners}))
