"""A debugger to attach to: `shoal dev --debug SERVICE`. Debugpy comes from the service's own environment.

Also started by path, for a `command:` that is a Python program: `python debugger.py program.py arguments`.
"""

import contextlib
import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

VARIABLE = "SHOAL_DEBUG"
"""`127.0.0.1:5678`"""
RETRY_S = 0.2

Say = Callable[[str], None]


def start(say: Say) -> Any:
    """Listens where the variable says, as soon as the replica before this one has let go of the address. Gives debugpy,
    or None: nobody asked for it, or it is not there."""
    address = os.environ.pop(VARIABLE, "")
    if not address:
        return None
    try:
        debugpy = importlib.import_module("debugpy")
    except ImportError:
        say(
            "cannot be debugged: its environment has no debugpy; add 'debugpy' to its requirements (or to its .venv). "
            "It runs without"
        )
        return None
    host, _, port = address.rpartition(":")
    where = (host, int(port))
    if _is_free(where):
        _listen(debugpy, where, say)
    else:
        threading.Thread(target=_listen_later, args=(debugpy, where, say), daemon=True, name="shoal-debug").start()
    return debugpy


def traced(debugpy: Any, application: Callable[..., Any]) -> Callable[..., Any]:
    """A WSGI application whose threads a debugger sees, although the server made them and not Python."""
    known = threading.local()

    def call(environ: Any, start_response: Any) -> Any:
        if not getattr(known, "traced", False):
            known.traced = True
            debugpy.trace_this_thread(True)
        return application(environ, start_response)

    return call


def _listen(debugpy: Any, where: "tuple[str, int]", say: Say) -> None:
    try:
        debugpy.listen(where)
    except Exception as error:
        say(f"cannot be debugged: {error}. It runs without")
    else:
        say(f"waits for a debugger at {where[0]}:{where[1]}")


def _listen_later(debugpy: Any, where: "tuple[str, int]", say: Say) -> None:
    while not _is_free(where):
        time.sleep(RETRY_S)
    _listen(debugpy, where, say)


def _is_free(where: "tuple[str, int]") -> bool:
    with contextlib.closing(socket.socket()) as probe:
        # As debugpy's adapter binds it: the address of connections that have just ended counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError:
            return False
    return True


def _run_program() -> None:
    import runpy

    def say(text: str) -> None:
        service = os.environ.get("SHOAL_SERVICE", "")
        sys.stderr.write(f"shoal: service {service!r} {text}\n")
        sys.stderr.flush()

    del sys.argv[0], sys.path[0]
    start(say)
    if sys.argv[0] == "-m":
        del sys.argv[0]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _run_program()
