"""The keeper's side of one connection: JSON lines in, JSON lines out, both bounded."""

from __future__ import annotations

import json
import select
import socket

LINE_MAX = 4 << 20
"""Bytes of a request: an environment may be long."""
BACKLOG_PAUSE = 1 << 20
"""With so many bytes of answers unread, no more requests are taken from a client."""
BACKLOG_MAX = 8 << 20
"""With so many bytes of events unread, a client is dropped."""
_READ_MAX = 65536


class ClientGoneError(Exception):
    """It hung up, or has to be dropped; why, in words."""


class Client:
    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.attached = False
        self.interest = int(select.EPOLLIN)
        """Events that the loop watches it for."""
        self._in = bytearray()
        self._out = bytearray()
        self._searched = 0

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    @property
    def paused(self) -> bool:
        """Whether its requests wait until it has read its answers."""
        return len(self._out) >= BACKLOG_PAUSE

    def receive(self) -> None:
        """Reads once. ClientGoneError: it hung up."""
        try:
            part = self.connection.recv(_READ_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            raise ClientGoneError(str(error)) from error
        if not part:
            raise ClientGoneError("")
        self._in += part

    def next_line(self) -> bytes | None:
        """The next whole request. None: none yet, or paused. ClientGoneError: it is longer than `LINE_MAX`."""
        if self.paused:
            return None
        end = self._in.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._in)
            if self._searched > LINE_MAX:
                raise ClientGoneError(f"a request of more than {LINE_MAX} bytes")
            return None
        line = bytes(self._in[:end])
        del self._in[: end + 1]
        self._searched = 0
        return line

    def send(self, message: dict[str, object]) -> None:
        """Never blocks. ClientGoneError: it hung up, or reads too slowly."""
        self._out += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        self.flush()
        if len(self._out) > BACKLOG_MAX:
            raise ClientGoneError(f"it left {len(self._out)} bytes unread")

    def flush(self) -> None:
        try:
            while self._out:
                sent = self.connection.send(self._out[:_READ_MAX])
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ClientGoneError(str(error)) from error

    def say_goodbye(self, message: dict[str, object]) -> None:
        """Why it is dropped, if it can still hear that."""
        self._out.clear()
        try:
            self.send(message)
        except ClientGoneError:
            pass

    def close(self) -> None:
        self.connection.close()
