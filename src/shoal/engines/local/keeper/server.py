"""One keeper: its loop is one thread, and nothing in it waits for anybody."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from functools import partial

from . import taps
from .clients import Client
from .daemon import DaemonPolicy
from .front import Front
from .logs import OwnLog
from .loop import Loop
from .operations import Operations
from .processes import Process, Processes, RequestError
from .registry import DAEMON, Record, Registry, exit_code_of_stranger

_LOOK_S = 1.0
"""Between looks at an adopted process that we have no pidfd of."""
_ORPHANS_S = 2.0
"""How long orphans have after SIGTERM when everything ends."""


class Server:
    """`open()`, then `run()` until a signal or the operation `shutdown` ends it."""

    def __init__(self, *, root: str, socket_path: str, daemon_argv: list[str], log: OwnLog) -> None:
        self._root = root
        self._log = log
        self._daemon_argv = daemon_argv
        self._daemon = DaemonPolicy(wanted=bool(daemon_argv))
        self._loop = Loop(log)
        self._front = Front(socket_path, self._loop, self._answer)
        self._look_at: float | None = None
        self._stop = False
        self._shutting_down = False
        self._child_ended = True
        registry = Registry(f"{root}/processes")
        self._desk = taps.Desk(taps.Mark(f"{root}/processes/.mark"), log.say)
        self._processes = Processes(registry, self._desk, self._emit, files_max=_raise_file_limit())
        self._operations = Operations(self._processes, self._begin_shutdown)

    def open(self) -> None:
        """Adopts what runs and begins to listen. OSError: no socket."""
        self._handle_signals()
        self._processes.adopt()
        now = time.monotonic()
        for process in self._processes.running():
            if process.pidfd is None:
                self._look_at = now
            else:
                self._loop.watch(process.pidfd, select.EPOLLIN, partial(self._adopted_ended, process))
            if process.record.name == DAEMON:
                self._daemon.started(now)
        self._front.open()

    def run(self) -> None:
        while not self._stop:
            self._loop.run_once(self._patience_s())
            self._loop.guarded(self._between_events)
        if self._shutting_down:
            self._clean_up()
        self._front.close(for_good=self._shutting_down)

    def _between_events(self) -> None:
        now = time.monotonic()
        if self._child_ended:
            self._child_ended = False
            self._processes.reap()
        self._pump(now)
        if self._daemon.due is not None and self._daemon.due <= now:
            self._start_daemon(now)
        if self._front.due <= now:
            self._front.look(now)
        if self._look_at is not None and self._look_at <= now:
            self._look_at_adopted(now)
        if self._shutting_down and not self._processes.running():
            self._stop = True

    def _patience_s(self) -> float:
        times = [tap.due for tap in self._processes.taps]
        times += [self._front.due, self._daemon.due, self._look_at]
        return max(0.0, min(at for at in times if at is not None) - time.monotonic())

    def _pump(self, now: float) -> None:
        """One pipe full of each FIFO that has something: no one keeps the others waiting."""
        for tap in self._processes.new_taps:
            self._loop.watch(tap.fd, taps.EVENTS, tap.wake)
        self._processes.new_taps.clear()
        at = time.time()
        for tap in list(self._processes.taps):
            if tap.due is None or tap.due > now:
                continue
            try:
                tap.pump(now, at)
            except OSError as error:
                self._log.say(f"what {tap.name} writes is lost: {error}")
                tap.ended = True
            if tap.ended:
                self._loop.forget(tap.fd)
                self._processes.drop(tap)

    def _adopted_ended(self, process: Process, _events: int) -> None:
        assert process.pidfd is not None
        self._loop.forget(process.pidfd)
        self._processes.ended(process, exit_code_of_stranger(process.record, process.pidfd))

    def _look_at_adopted(self, now: float) -> None:
        self._look_at = None
        for process in self._processes.running():
            if not process.own and process.pidfd is None:
                self._look_at = now + _LOOK_S
                if not process.record.is_alive():
                    self._processes.ended(process, None)

    def _start_daemon(self, now: float) -> None:
        log = f"{self._root}/logs/{DAEMON}.log"
        try:
            self._processes.spawn(DAEMON, self._daemon_argv, dict(os.environ), "/", log, {"kind": DAEMON}, None)
            self._daemon.started(now)
        except RequestError as error:
            wait_s = self._daemon.ended(now)
            self._log.say(f"the daemon could not be started, next try in {wait_s:g} s: {error}")

    def _emit(self, event: str, record: Record) -> None:
        if event == "exited" and record.name == DAEMON:
            wait_s = self._daemon.ended(time.monotonic())
            self._log.say(f"the daemon ended ({_how(record)})" + (f", next start in {wait_s:g} s" if wait_s else ""))
        message = {"event": event, "name": record.name, "pid": record.pid, "tag": record.tag, "at": record.started_at}
        if event == "exited":
            message |= {"exit_code": record.exit_code, "at": record.exited_at, "left_behind": record.left_behind}
        self._front.tell(message)

    def _answer(self, client: Client, line: bytes) -> dict[str, object]:
        number: object = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise RequestError("bad-request", "a request is a JSON object")
            number = request.get("id")
            return {"id": number, "ok": self._operations.run(client, request)}
        except RequestError as error:
            return {"id": number, "error": {"code": error.code, "message": str(error)}}
        except (ValueError, RecursionError) as error:
            return {"id": number, "error": {"code": "bad-request", "message": f"no JSON: {error}"}}
        except Exception as error:
            self._log.say_exception("a fault of the keeper, please report it")
            return {"id": number, "error": {"code": "internal", "message": f"{type(error).__name__}: {error}"}}

    def _begin_shutdown(self) -> None:
        self._shutting_down = True
        self._daemon.stop()

    def _clean_up(self) -> None:
        """Ends what escaped from its process group, then leaves no file but logs."""
        deadline = time.monotonic() + _ORPHANS_S
        number = signal.SIGTERM
        while self._processes.signal_orphans(number):
            time.sleep(0.02)
            self._processes.reap()
            if time.monotonic() > deadline:
                number = signal.SIGKILL
            if time.monotonic() > deadline + _ORPHANS_S:
                self._log.say("some processes cannot be ended, and stay")
                break
        self._pump(time.monotonic())
        self._desk.close()
        try:
            self._processes.remove_all()
        except OSError as error:
            self._log.say(f"cannot remove all records: {error}")

    def _handle_signals(self) -> None:
        def end(_number: int, _frame: object) -> None:
            self._stop = True

        def child(_number: int, _frame: object) -> None:
            self._child_ended = True

        self._loop.wake_on_signals()
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, child)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _how(record: Record) -> str:
    if record.exit_code is None:
        return "exit code unknown"
    return f"exit code {record.exit_code}" if record.exit_code >= 0 else f"signal {-record.exit_code}"


def _raise_file_limit() -> int | None:
    """Three descriptors a process: takes what the hard limit allows; returns the soft limit that children get back."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if wanted <= soft:
        return None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return None
    return soft
