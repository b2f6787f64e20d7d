"""Makes a child: everything between fork and exec, and the words when it does not get that far."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from . import namespaces
from .mounts import Mounts
from .networks import Network

Namespace = tuple[str | None, str | None, Network | None, Mounts | None]
"""What `namespaces.enter` takes."""

SETUP_S_MAX = 5.0
"""How long a child may take from fork to exec. Longer means a folder on a dead network disk."""


class ExecError(Exception):
    """A command that could not be run, in words."""

    def __init__(self, words: str, *, missing: bool = False, code: str = "exec-failed") -> None:
        super().__init__(words)
        self.missing = missing
        self.code = code


def spawn(
    argv: list[str],
    env: Mapping[str, str],
    cwd: str,
    fifo: str,
    *,
    namespace: Namespace | None,
    files_max: int | None,
    born: Callable[[int], None],
) -> int:
    """Starts `argv` as leader of its own session, writing into `fifo`; returns its pid once it has become `argv`.

    `born(pid)` is called before the command runs, to write down that it exists: a keeper killed at any moment leaves no
    process that its successor does not know. `files_max`: the soft limit of open files to give back to it.
    ExecError: it never ran.
    """
    report_r, report_w = os.pipe2(os.O_CLOEXEC)
    go_r, go_w = os.pipe2(os.O_CLOEXEC)
    # A signal for the keeper must not reach the child while it still has the keeper's handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            os.close(go_w)
            _child(argv, env, cwd, fifo, namespace, files_max, report_w, go_r)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(report_w)
        os.close(go_r)
    try:
        deadline = time.monotonic() + SETUP_S_MAX
        words = _read(report_r, 1, deadline)
        if words == b"+":
            born(pid)
            os.write(go_w, b"+")
            words = _read(report_r, 4096, deadline)
        else:
            words += _read(report_r, 4096, deadline)
        if not words:
            return pid
        raise _failure(words)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(report_r)
        os.close(go_w)


def _read(fd: int, size: int, deadline: float) -> bytes:
    """Up to `size` bytes, or fewer at the end of the pipe: which is when the child execs or dies."""
    found = b""
    while len(found) < size:
        left = deadline - time.monotonic()
        if left <= 0 or not _readable(fd, left):
            raise ExecError(
                f"its start took more than {SETUP_S_MAX:g} s; is its folder on a disk that does not answer?"
            )
        part = os.read(fd, size - len(found))
        if not part:
            break
        found += part
    return found


def _readable(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _failure(words: bytes) -> ExecError:
    code, _, text = words.decode("utf-8", "replace").partition(" ")
    return ExecError(text, code=code)


def _child(
    argv: list[str],
    env: Mapping[str, str],
    cwd: str,
    fifo: str,
    namespace: Namespace | None,
    files_max: int | None,
    report: int,
    go: int,
) -> NoReturn:
    """In the child: nothing may return or raise out of here, or two keepers would run."""
    try:
        os.setsid()
        _forget_signals()
        if files_max is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        # Read-write: a FIFO that its writer holds open for reading too gives no EPIPE when every reader dies.
        out = os.open(fifo, os.O_RDWR)
        os.dup2(out, 1)
        os.dup2(out, 2)
        try:
            os.chdir(cwd)
        except OSError as error:
            raise ExecError(f"cannot enter the folder {cwd}: {error.strerror}") from error
        if namespace is not None:
            try:
                namespaces.enter(*namespace)
            except namespaces.NamespaceError as error:
                raise ExecError(str(error), code=error.code) from error
        os.write(report, b"+")
        if os.read(go, 1) == b"+":  # else the keeper died before it wrote us down
            become(argv, env)
    except ExecError as error:
        _report(report, error.code, str(error))
    except BaseException as error:
        _report(report, "exec-failed", f"{type(error).__name__}: {error}")
    finally:
        os._exit(127)


def _report(fd: int, code: str, words: str) -> None:
    os.write(fd, f"{code} {words}".encode("utf-8", "replace")[:4000])


def _forget_signals() -> None:
    """Every disposition as after boot: Python ignores SIGPIPE, and who started the keeper may have ignored SIGINT."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass  # the C library keeps it for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def become(argv: list[str], env: Mapping[str, str]) -> NoReturn:
    """Replaces this process by `argv`, looked up in the `PATH` of `env`. ExecError: in words, `missing` when there is
    no such command."""
    program = argv[0]
    places = [program] if "/" in program else [f"{d or '.'}/{program}" for d in env.get("PATH", os.defpath).split(":")]
    refused: OSError | None = None
    for place in places:
        try:
            os.execve(place, argv, env)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            if os.path.exists(place):  # else the folder itself is missing, or closed to us
                refused = refused or error
        except OSError as error:
            raise ExecError(_why(place, error)) from error
    if refused is not None:
        raise ExecError(_why(refused.filename or program, refused)) from refused
    where = "" if "/" in program else f" in PATH ({env.get('PATH', os.defpath)})"
    raise ExecError(f"cannot run {program}: no such command{where}", missing=True)


def _why(place: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"cannot run {place}: the interpreter that its first line names does not exist"
    if isinstance(error, PermissionError):
        kind = "it is a folder" if os.path.isdir(place) else "it is not executable (chmod +x)"
        return f"cannot run {place}: {kind}"
    if error.strerror == "Exec format error":
        return f"cannot run {place}: not a program for this machine, and no script with a '#!' first line"
    return f"cannot run {place}: {error.strerror}"
