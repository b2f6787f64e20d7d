"""The keeper's socket and everybody who is connected to it."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from functools import partial

from .clients import Client, ClientGoneError
from .loop import Loop

CLIENTS_MAX = 64
_CHECK_S = 5.0
"""How often to see that the socket's file is still there: cleaners of /tmp take such files away."""
_PAUSE_S = 1.0
"""Until the next try to accept when there are no file descriptors left."""

Answer = Callable[[Client, bytes], dict[str, object]]


class Front:
    def __init__(self, path: str, loop: Loop, answer: Answer) -> None:
        self._path = path
        self._loop = loop
        self._answer = answer
        self._clients: dict[int, Client] = {}
        self._listener: socket.socket | None = None
        self._listener_id = (0, 0)
        self._check_at = 0.0
        self._accept_at: float | None = None

    @property
    def due(self) -> float:
        """When (monotonic) to call `look` next."""
        return self._check_at if self._accept_at is None else min(self._check_at, self._accept_at)

    def open(self) -> None:
        """OSError: no socket can be made there."""
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
        self._loop.watch(listener.fileno(), select.EPOLLIN, self._accept)

    def close(self, *, for_good: bool) -> None:
        """`for_good`: nothing of the app runs any more, and the folder of sockets goes too."""
        if self._listener is None:
            return
        try:
            if _file_id(self._path) == self._listener_id:
                os.unlink(self._path)
                if for_good:
                    _remove_sockets(os.path.dirname(self._path))
        except OSError:
            pass
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._listener = None

    def look(self, now: float) -> None:
        """Sees that the socket is there, and takes clients again after a pause."""
        if self._accept_at is not None and self._accept_at <= now and self._listener is not None:
            self._accept_at = None
            self._loop.change(self._listener.fileno(), select.EPOLLIN)
        if self._check_at > now:
            return
        self._check_at = now + _CHECK_S
        if _file_id(self._path) == self._listener_id:
            return
        self._loop.log.say(f"{self._path} was taken away; making it anew")
        try:
            self.close(for_good=False)
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            self.open()
        except OSError as error:
            self._loop.log.say(f"cannot listen on {self._path}: {error}")

    def tell(self, message: dict[str, object]) -> None:
        """An event, to everybody who attached."""
        for fd, client in list(self._clients.items()):
            if client.attached:
                try:
                    client.send(message)
                    self._set_interest(fd, client)
                except ClientGoneError as error:
                    self._drop(fd, error)

    def _accept(self, _events: int) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self._loop.log.say(f"cannot take another client: {error.strerror}")
                self._loop.change(self._listener.fileno(), 0)
                self._accept_at = time.monotonic() + _PAUSE_S
            return
        if len(self._clients) >= CLIENTS_MAX:
            self._loop.log.say(f"refused a client: there are {CLIENTS_MAX}")
            connection.close()
            return
        fd = connection.fileno()
        self._clients[fd] = Client(connection)
        self._loop.watch(fd, select.EPOLLIN, partial(self._client_event, fd))

    def _client_event(self, fd: int, events: int) -> None:
        client = self._clients[fd]
        try:
            if events & select.EPOLLOUT:
                client.flush()
            if events & ~select.EPOLLOUT:
                client.receive()
            # An event that a request causes may be what drops its client.
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
            self._loop.change(fd, wanted)

    def _drop(self, fd: int, reason: ClientGoneError) -> None:
        client = self._clients.pop(fd, None)
        if client is None:
            return
        if str(reason):
            self._loop.log.say(f"dropped a client: {reason}")
            client.say_goodbye({"id": None, "error": {"code": "bad-request", "message": str(reason)}})
        self._loop.forget(fd)
        client.close()


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
