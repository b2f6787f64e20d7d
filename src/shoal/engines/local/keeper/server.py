"""The keeper's loop: one thread, one epoll, and nothing in it waits for anybody."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Callable
from functools import partial

from . import taps
from .clients import Client, ClientGoneError
from .daemon import DaemonPolicy
from .logs import OwnLog
from .operations import Operations
from .processes import Process, Processes, RequestError
from .registry import DAEMON, Record, Registry, exit_code_of_stranger

CLIENTS_MAX = 64
_SOCKET_CHECK_S = 5.0
"""How often to see that the socket's file is still there: cleaners of /tmp take such files away."""
_PAUSE_S = 1.0
"""Until the next try to accept when there are no file descriptors left; between looks at a process without pidfd."""
_ORPHANS_S = 2.0
"""How long orphans have after SIGTERM when everything ends."""


class Server:
    """One keeper. `open()`, then `run()` until a signal or the operation `shutdown` ends it."""

    def __init__(self, *, root: str, socket_path: str, daemon_argv: list[str], log: OwnLog) -> None:
        self._root = root
        self._path = socket_path
        self._log = log
        self._daemon_argv = daemon_argv
        self._daemon = DaemonPolicy(wanted=bool(daemon_argv))
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._clients: dict[int, Client] = {}
        self._listener: socket.socket | None = None
        self._listener_id = (0, 0)
        self._check_at = 0.0
        self._accept_at: float | None = None
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
        self._watch_signals()
        self._processes.adopt()
        now = time.monotonic()
        for process in self._processes.running():
            if process.pidfd is None:
                self._look_at = now
            else:
                self._watch(process.pidfd, select.EPOLLIN, partial(self._adopted_ended, process))
            if process.record.name == DAEMON:
                self._daemon.started(now)
        self._listen()

    def run(self) -> None:
        while not self._stop:
            for fd, events in self._epoll.poll(self._patience_s()):
                handler = self._handlers.get(fd)
                if handler is not None:
                    self._guarded(handler, events)
            self._guarded(self._between_events, 0)
        if self._shutting_down:
            self._clean_up()
        if self._listener is not None:
            self._close_listener()

    def _guarded(self, handler: Callable[[int], None], argument: int) -> None:
        """A fault in one corner is written down and must not end the parent of everything."""
        try:
            handler(argument)
        except Exception:
            self._log.say_exception("a fault of the keeper, please report it")
            time.sleep(0.01)  # should it come again at once and for ever

    def _between_events(self, _nothing: int) -> None:
        now = time.monotonic()
        if self._child_ended:
            self._child_ended = False
            self._processes.reap()
        self._pump(now)
        if self._daemon.due is not None and self._daemon.due <= now:
            self._start_daemon(now)
        if self._check_at <= now:
            self._check_socket(now)
        if self._accept_at is not None and self._accept_at <= now and self._listener is not None:
            self._accept_at = None
            self._epoll.modify(self._listener, select.EPOLLIN)
        if self._look_at is not None and self._look_at <= now:
            self._look_at = None
            for process in self._processes.running():
                if not process.own and process.pidfd is None:
                    self._look_at = now + _PAUSE_S
                    if not process.record.is_alive():
                        self._processes.ended(process, None)
        if self._shutting_down and not self._processes.running():
            self._stop = True

    def _patience_s(self) -> float:
        times = [tap.due for tap in self._processes.taps]
        times += [self._daemon.due, self._check_at, self._accept_at, self._look_at]
        return max(0.0, min(at for at in times if at is not None) - time.monotonic())

    # Processes

    def _pump(self, now: float) -> None:
        """One pipe full of each FIFO that has something: no one keeps the others waiting."""
        for tap in self._processes.new_taps:
            self._watch(tap.fd, taps.EVENTS, tap.wake)
        self._processes.new_taps.clear()
        at = time.time()
        for tap in list(self._processes.taps):
            if tap.due is not None and tap.due <= now:
                tap.pump(now, at)
                if tap.ended:
                    self._handlers.pop(tap.fd, None)
                    self._processes.drop(tap)

    def _adopted_ended(self, process: Process, _events: int) -> None:
        assert process.pidfd is not None
        self._handlers.pop(process.pidfd, None)
        self._epoll.unregister(process.pidfd)
        self._processes.ended(process, exit_code_of_stranger(process.record, process.pidfd))

    def _start_daemon(self, now: float) -> None:
        try:
            self._processes.spawn(
                DAEMON,
                self._daemon_argv,
                dict(os.environ),
                "/",
                f"{self._root}/logs/{DAEMON}.log",
                {"kind": DAEMON},
                None,
            )
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
        for fd, client in list(self._clients.items()):
            if client.attached:
                try:
                    client.send(message)
                    self._set_interest(fd, client)
                except ClientGoneError as error:
                    self._drop(fd, error)

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

    # Signals and sockets

    def _watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def _watch_signals(self) -> None:
        def end(number: int, _frame: object) -> None:
            self._stop = True

        def child(number: int, _frame: object) -> None:
            self._child_ended = True

        wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, child)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self._watch(wake_r, select.EPOLLIN, partial(_discard, wake_r))

    def _listen(self) -> None:
        try:
            os.unlink(self._path)  # a dead keeper's: we hold the lock
        except FileNotFoundError:
            pass
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        before = os.umask(0o177)
        try:
            listener.bind(self._path)
        finally:
            os.umask(before)
        listener.listen(CLIENTS_MAX)
        self._listener = listener
        self._listener_id = _file_id(self._path)
        self._watch(listener.fileno(), select.EPOLLIN, self._accept)

    def _close_listener(self) -> None:
        assert self._listener is not None
        if _file_id(self._path) == self._listener_id:
            try:
                os.unlink(self._path)
                if self._shutting_down:
                    _remove_sockets(os.path.dirname(self._path))
            except OSError:
                pass
        self._handlers.pop(self._listener.fileno(), None)
        self._listener.close()
        self._listener = None

    def _check_socket(self, now: float) -> None:
        self._check_at = now + _SOCKET_CHECK_S
        if _file_id(self._path) == self._listener_id:
            return
        self._log.say(f"{self._path} was taken away; making it anew")
        try:
            if self._listener is not None:
                self._close_listener()
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            self._listen()
        except OSError as error:
            self._log.say(f"cannot listen on {self._path}: {error}")

    def _accept(self, _events: int) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self._log.say(f"cannot take another client: {error.strerror}")
                self._epoll.modify(self._listener, 0)
                self._accept_at = time.monotonic() + _PAUSE_S
            return
        if len(self._clients) >= CLIENTS_MAX:
            self._log.say(f"refused a client: there are {CLIENTS_MAX}")
            connection.close()
            return
        fd = connection.fileno()
        self._clients[fd] = Client(connection)
        self._watch(fd, select.EPOLLIN, partial(self._client_event, fd))

    def _client_event(self, fd: int, events: int) -> None:
        client = self._clients[fd]
        try:
            if events & select.EPOLLOUT:
                client.flush()
            if events & ~select.EPOLLOUT:
                client.receive()
            while fd in self._clients and (line := client.next_line()) is not None:
                client.send(self._answer(client, line))
            if fd in self._clients:
                self._set_interest(fd, client)
        except ClientGoneError as error:
            self._drop(fd, error)

    def _set_interest(self, fd: int, client: Client) -> None:
        wanted = (0 if client.paused else select.EPOLLIN) | (select.EPOLLOUT if client.wants_to_write else 0)
        if wanted != client.interest:
            client.interest = wanted
            self._epoll.modify(fd, wanted)

    def _drop(self, fd: int, reason: ClientGoneError) -> None:
        client = self._clients.pop(fd, None)
        if client is None:
            return
        if str(reason):
            self._log.say(f"dropped a client: {reason}")
            client.say_goodbye({"id": None, "error": {"code": "bad-request", "message": str(reason)}})
        self._handlers.pop(fd, None)
        client.close()

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


def _file_id(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def _remove_sockets(folder: str) -> None:
    """Also those whose owners were killed and could not tidy up. OSError: something else is in the folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                os.unlink(entry.path)
    os.rmdir(folder)


def _discard(fd: int, _events: int) -> None:
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        pass


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
