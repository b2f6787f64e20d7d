"""Serves an application with granian, in this one process, until SIGTERM.

ASGI runs on `granian.server.embed.Server`, in the main thread's event loop. WSGI runs on granian's thread server, in
this process too. Measured (8 keep-alive connections, a trivial application, CPU per request, memory PSS):

| WSGI on                                      | CPU    | memory | processes |
|----------------------------------------------|--------|--------|-----------|
| granian's main + worker                      | 58 µs  | 35 MB  | 2         |
| the embedded server and an ASGI adapter      | 196 µs | 28 MB  | 1         |
| granian's thread server (chosen)             | 50 µs  | 31 MB  | 1         |

One process also means that threads which a module starts at import go on to live (a forked worker has none of them),
and that a SIGKILL leaves nobody behind.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from . import detection
from .failures import EXIT_SERVER, EXIT_STARTUP, CannotServeError

Say = Callable[[str], None]

WSGI_THREADS = 32
"""Requests that a WSGI replica works on at once; idle threads end after 30 s. granian's own default is 512."""
BACKLOG = 1024
STREAMS, STREAM_WINDOW = 200, 256 << 10
"""Requests on one connection of Envoy's (it opens more as it needs them), and bytes of each that may wait to be read.
The connection has room for all of them: an upload that the application does not read must not hold up the others."""


class Granian:
    """What is needed of it."""

    def __init__(self) -> None:
        self.embed: Any = importlib.import_module("granian.server.embed").Server
        self.threads: Any = importlib.import_module("granian.server.mt").MTServer
        constants = importlib.import_module("granian.constants")
        self.interfaces: Any = constants.Interfaces
        self.http2: Any = importlib.import_module("granian.http").HTTP2Settings
        self.log_levels: Any = importlib.import_module("granian.log").LogLevels
        # Free-threaded builds are what the thread server was made for; it refuses others in this one method, although
        # its workers run there as well. A granian that has it no more is not one that we know.
        if not hasattr(self.threads, "_check_gil"):
            raise ImportError("an unknown granian")


def import_granian(overlay: str | None) -> Granian:
    """The service's own granian where that is one that we can use, else the overlay's, which is pinned and tested.

    The overlay goes to the end of the path, so that the service's own packages win. Raises CannotServeError.
    """
    if overlay:
        sys.path.append(overlay)
    try:
        return Granian()
    except Exception as error:
        if not overlay:
            raise CannotServeError(EXIT_SERVER, f"has no usable granian: {error}") from error
    for name in [name for name in sys.modules if name.partition(".")[0] == "granian"]:
        del sys.modules[name]
    sys.path.insert(0, overlay)
    try:
        return Granian()
    except Exception as error:
        raise CannotServeError(EXIT_SERVER, f"cannot load granian from {overlay}: {error}") from error
    finally:
        sys.path.remove(overlay)


def serve(
    granian: Granian, application: object, interface: str, *, socket_path: str, stop_within_s: float, say: Say
) -> None:
    """Returns when SIGTERM came and the requests in flight were answered.

    At SIGTERM the socket goes at once, so that nobody connects any more. What still runs `stop_within_s` later is cut
    off: the process ends with status 0 from where it is. Raises CannotServeError.
    """
    _log_to_stderr()
    try:
        _remove_stale(socket_path)
        stop = _Stop(stop_within_s, say)
        if interface == detection.ASGI:
            _serve_asgi(granian, application, socket_path, stop)
        else:
            _serve_wsgi(granian, application, socket_path, stop)
    except OSError as error:
        raise CannotServeError(EXIT_SERVER, f"cannot listen on {socket_path}: {error}") from error


def _settings(granian: Granian, socket_path: str) -> dict[str, Any]:
    return {
        "uds": Path(socket_path),
        "backlog": BACKLOG,
        "http2_settings": granian.http2(
            initial_stream_window_size=STREAM_WINDOW,
            initial_connection_window_size=STREAM_WINDOW * STREAMS,
            max_concurrent_streams=STREAMS,
        ),
        "log_level": granian.log_levels.error,
        # Incremental: granian's own configuration would close every log handler that the service has just made.
        "log_dictconfig": {"incremental": True, "handlers": {}, "formatters": {}},
    }


def _serve_asgi(granian: Granian, application: object, socket_path: str, stop: _Stop) -> None:
    server = granian.embed(application, interface=granian.interfaces.ASGI, **_settings(granian, socket_path))
    server.uds_permissions = 0o600
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    serving = loop.create_task(server.serve(), name="shoal-serve")

    def end() -> None:
        stop.start()
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        loop.run_until_complete(serving)
    except Exception as error:
        if type(error).__name__ != "FatalError":
            raise
        raise CannotServeError(
            EXIT_STARTUP, "failed to start: its lifespan startup raised (the reason is above)"
        ) from None
    finally:
        _close(loop)


def _serve_wsgi(granian: Granian, application: object, socket_path: str, stop: _Stop) -> None:
    class OneProcess(granian.threads):  # type: ignore[misc, name-defined, unused-ignore]
        def _check_gil(self) -> None:
            """Both kinds of build may pass."""

    server: Any = OneProcess(
        "",
        uds_permissions=0o600,
        interface=granian.interfaces.WSGI,
        blocking_threads=WSGI_THREADS,
        **_settings(granian, socket_path),
    )

    def end(number: int, frame: FrameType | None) -> None:
        stop.start()
        server.signal_handler_interrupt()

    def take_signals() -> None:  # granian has just set its own, SIGHUP (start over) among them
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    server.on_startup(take_signals)
    server.serve(target_loader=lambda: application, wrap_loader=False)


class _Stop:
    """Ends the process when the requests in flight take longer than they may."""

    def __init__(self, within_s: float, say: Say) -> None:
        self._within_s, self._say = within_s, say
        self._started = False

    def start(self) -> None:
        if self._started:
            return
        self._started = True
        timer = threading.Timer(self._within_s, self._cut)
        timer.daemon = True  # and alive to the end: a thread of the service's own may be what holds it up
        timer.start()

    def _cut(self) -> None:
        self._say(f"was asked to stop {self._within_s:g} s ago and is still at work: what is unfinished is cut off")
        sys.stdout.flush()
        os._exit(0)


def _new_loop() -> asyncio.AbstractEventLoop:
    """The service's uvloop, where it has one."""
    try:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except Exception:
        return asyncio.new_event_loop()
    return loop


def _close(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    try:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _log_to_stderr() -> None:
    """What granian says of requests that raised: the traceback, nothing else."""
    logger = logging.getLogger("_granian")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.propagate = False


def _remove_stale(socket_path: str) -> None:
    """The socket of a replica that was killed is still there."""
    try:
        if stat.S_ISSOCK(os.lstat(socket_path).st_mode):
            os.unlink(socket_path)
    except FileNotFoundError:
        pass
