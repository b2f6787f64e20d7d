"""The life of a replica: import, look, serve, end."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from collections.abc import Sequence
from typing import Any

from . import detection, loading, serving
from .failures import CannotServeError


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM. Gives the exit status: 0, or a code of `failures`, after one plain line on stderr."""
    options = _parse(argv)
    faulthandler.enable()  # else a crash in an extension module says nothing at all
    try:
        # granian comes before the service's folder is on the path: a module there called `logging` must not reach it.
        granian = serving.import_granian(options.overlay)
        _enter(options.folder, options.target)
        debugpy = _debugger(options.service)
        application = loading.load(
            options.target,
            folder=options.folder,
            warn_after_s=options.import_warning,
            give_up_after_s=options.import_deadline,
            say=lambda text: _say(options.service, text),
        )
        interface = detection.interface_of(application, options.target)
        if debugpy is not None and interface == detection.WSGI:
            from . import debugger

            assert callable(application)
            application = debugger.traced(debugpy, application)
        serving.serve(
            granian,
            application,
            interface,
            socket_path=options.socket,
            stop_within_s=options.stop_within,
            say=lambda text: _say(options.service, text),
        )
    except CannotServeError as failure:
        if failure.trace:
            sys.stderr.write(failure.trace)
        _say(options.service, failure.message)
        return failure.exit_code
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="shoal-runner", description="Serves one replica of a Python service.")
    parser.add_argument("service")
    parser.add_argument("target", help="module:attribute")
    parser.add_argument("--folder", required=True, help="goes first on the path")
    parser.add_argument("--socket", required=True, help="listen on this Unix socket")
    parser.add_argument("--overlay", help="folder with granian, for services that do not bring their own")
    parser.add_argument("--import-warning", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--import-deadline", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument("--stop-within", type=float, default=9.0, metavar="SECONDS")
    return parser.parse_args(argv)


def _enter(folder: str, target: str) -> None:
    folder = os.path.abspath(folder)
    sys.path.insert(0, folder)
    sys.argv[:] = [target]  # what a module sees that parses arguments at import; ours are none of its business


def _debugger(service: str) -> Any:
    """debugpy, where `shoal dev --debug` asked for it."""
    if "SHOAL_DEBUG" not in os.environ:
        return None
    from . import debugger

    return debugger.start(lambda text: _say(service, text))


def _say(service: str, text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"shoal: service {service!r} {text}\n")
    sys.stderr.flush()
