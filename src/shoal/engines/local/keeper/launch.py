"""Becomes the keeper: detached, locked, with its log; and tells its starter how that went."""

from __future__ import annotations

import fcntl
import json
import os
import sys

from . import linux
from .logs import OwnLog
from .server import Server

LOCKED = 3
"""Exit code of the starter: another keeper has this state folder."""


def main(argv: list[str]) -> int:
    """`argv`: program, root, run, `--`, the daemon's argv (may be empty). Returns, in the starting process, 0 when the
    keeper listens; else words are on stderr."""
    if len(argv) < 4 or argv[3] != "--":
        sys.stderr.write("usage: python -I -S keeper ROOT RUN -- DAEMON_ARGV...\n")
        return 2
    report_r, report_w = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        # The starter: waits for the keeper's report, or its death.
        os.close(report_w)
        words = b"".join(iter(lambda: os.read(report_r, 4096), b"")).decode("utf-8", "replace")
        if words == "ok":
            return 0
        sys.stderr.write(words.partition(" ")[2] or "the keeper died while it started; see its log\n")
        return LOCKED if words.startswith("locked") else 1
    os.close(report_r)
    _keep(argv[1], argv[2], argv[4:], report_w)
    return 0


def _keep(root: str, run: str, daemon_argv: list[str], report: int) -> None:
    os.setsid()
    os.chdir("/")
    holder = _lock(f"{root}/keeper.lock", run)
    if isinstance(holder, str):
        os.write(report, f"locked {holder}".encode())
        return
    log = OwnLog(f"{root}/logs/keeper.log")
    socket_path = f"{run}/keeper.sock"
    try:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        log.say(f"keeper {os.getpid()} starts, sockets in {run}")
        linux.become_subreaper()
        server = Server(root=root, socket_path=socket_path, daemon_argv=daemon_argv, log=log)
        server.open()
    except OSError as error:
        log.say_exception("cannot start")
        os.write(report, f"failed the keeper cannot start: {error}".encode("utf-8", "replace"))
        return
    os.write(report, b"ok")
    os.close(report)
    server.run()
    log.say(f"keeper {os.getpid()} ends")


def _lock(path: str, run: str) -> int | str:
    """The descriptor that holds the lock as long as we live, or words about who else does. Children share it until
    they exec, which is why they wait for our word and end when we die before it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            held = json.loads(os.pread(fd, 4096, 0))
            return f"pid {held['pid']} is the keeper of {os.path.dirname(path)}, with its sockets in {held['run']}"
        except (ValueError, KeyError, TypeError):
            return f"another keeper holds {path}"
        finally:
            os.close(fd)
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps({"pid": os.getpid(), "run": run}).encode(), 0)
    return fd
