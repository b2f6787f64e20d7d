"""One request over the Unix socket. Every way in which it can fail is an error of `client.failures`."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shoal.client.failures import cut_off, from_problem, not_running, refused, too_slow

LINE_MAX = 16 << 20
BLOCK = 64 << 10

_BROKEN = (ConnectionError, http.client.HTTPException)


class Answer:
    """What came back, while its connection is open."""

    def __init__(self, response: http.client.HTTPResponse, timeout_s: float) -> None:
        self._response = response
        self._timeout_s = timeout_s

    def json(self) -> Any:
        try:
            return json.loads(self._response.read())
        except TimeoutError:
            raise too_slow(self._timeout_s) from None
        except (*_BROKEN, ValueError):
            raise cut_off() from None

    def lines(self) -> Iterator[bytes]:
        """As they come, without their ends. NotRunningError where the stream breaks instead of ending."""
        rest = b""
        while block := self._block():
            *whole, rest = (rest + block).split(b"\n")
            yield from whole
            if len(rest) > LINE_MAX:
                raise cut_off()
        if rest:
            yield rest

    def _block(self) -> bytes:
        try:
            return self._response.read1(BLOCK)
        except TimeoutError:
            raise too_slow(self._timeout_s) from None
        except _BROKEN:
            raise cut_off() from None


@contextmanager
def request(
    path: Path, method: str, target: str, *, body: object = None, accept: str, timeout_s: float
) -> Iterator[Answer]:
    """Connects to the socket `path` and asks. `timeout_s`: of each wait for the daemon. Raises NotRunningError, and the
    error that the daemon reports."""
    connection = _UnixConnection(path, timeout_s)
    headers, content = {"accept": accept}, None
    if body is not None:
        content = json.dumps(body).encode()
        headers["content-type"] = "application/json"
    try:
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
        except (FileNotFoundError, ConnectionRefusedError):
            raise not_running() from None
        except TimeoutError:
            raise too_slow(timeout_s) from None
        except _BROKEN:
            raise cut_off() from None
        except OSError as error:
            raise refused(path, error) from error
        with response:
            if response.status >= 400:
                raise from_problem(response.status, _rest(response))
            yield Answer(response, timeout_s)
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        self.sock = connection


def _rest(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(1 << 20)
    except (OSError, http.client.HTTPException):
        return b""
