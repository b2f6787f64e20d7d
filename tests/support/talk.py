"""Clients for what `speaks.py` serves, and steady calls of any kind during a disturbance. All of them block."""

from __future__ import annotations

import base64
import itertools
import json
import os
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

Address = tuple[str, int]
TIMEOUT_S = 10.0


def get_json(url: str, headers: dict[str, str] | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=TIMEOUT_S) as answer:
        return json.loads(answer.read())


class WebSocket:
    """One connection; `say` sends a text and gives the answer. ConnectionError: it was cut."""

    def __init__(self, address: Address, path: str = "/ws") -> None:
        self._socket = socket.create_connection(address, timeout=TIMEOUT_S)
        self._file = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.status = int(self._file.readline().split()[1].decode() or 0)
        while self._file.readline().strip():
            pass

    def say(self, text: str) -> str:
        data, mask = text.encode(), os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self._socket.sendall(bytes([0x81, 0x80 | len(data)]) + mask + masked)
        head = self._read(2)
        size = head[1] & 0x7F
        if size == 126:
            size = int.from_bytes(self._read(2), "big")
        return self._read(size).decode()

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError("the WebSocket was cut")
        return data

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lines:
    """A line out, a line in. ConnectionError: it was cut."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(address, timeout=TIMEOUT_S)
        self._file = self._socket.makefile("rb")

    def say(self, text: str) -> str:
        self._socket.sendall(f"{text}\r\n".encode())
        line = self._file.readline().decode()
        if not line.endswith("\n"):
            raise ConnectionError("closed without an answer")
        return line.strip()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Steady:
    """Makes the same call again and again from some threads while the block runs, `rate` a second over all of them."""

    call: Callable[[], str]
    """Gives who answered; raises where nobody did."""
    workers: int = 4
    rate: float = 80.0
    before: int = 20
    after: int = 60
    answered: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, count: int, within_s: float = 60.0) -> None:
        """Until so many more calls were made."""
        goal = self._made() + count
        with self._changed:
            there = self._changed.wait_for(lambda: self._made() >= goal, timeout=within_s)
        assert there, f"fewer than {count} more calls in {within_s} s: {self.summary()}"

    def summary(self) -> str:
        return f"answered {dict(self.answered)}, lost {len(self.lost)}: {self.lost[:5]}"

    def __enter__(self) -> Steady:
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.workers)]
        for thread in self._threads:
            thread.start()
        self.wait(self.before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait(self.after)
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(timeout=2 * TIMEOUT_S)
        print(self.summary())

    def _made(self) -> int:
        return self.answered.total() + len(self.lost)

    def _work(self) -> None:
        for _ in itertools.count():
            if self._stop.wait(self.workers / self.rate):
                return
            began = time.monotonic()
            try:
                who, why = self.call(), ""
            except Exception as error:
                who, why = "", f"{type(error).__name__} after {time.monotonic() - began:.2f} s: {error}"
            with self._changed:
                if why:
                    self.lost.append(why)
                else:
                    self.answered[who] += 1
                self._changed.notify_all()
