"""One epoll and who handles what it finds."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from functools import partial

from .logs import OwnLog

Handler = Callable[[int], None]
"""Called with the events of its descriptor."""


class Loop:
    def __init__(self, log: OwnLog) -> None:
        self.log = log
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Best before it is closed; closing it makes the kernel forget it too."""
        self._handlers.pop(fd, None)
        try:
            self._epoll.unregister(fd)
        except (OSError, ValueError):
            pass

    def wake_on_signals(self) -> None:
        """A signal that has a Python handler ends the waiting."""
        wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        self.watch(wake_r, select.EPOLLIN, partial(_discard, wake_r))

    def run_once(self, patience_s: float) -> None:
        """Waits at most so long, and handles what there is."""
        for fd, events in self._epoll.poll(patience_s):
            handler = self._handlers.get(fd)
            if handler is not None:
                self.guarded(partial(handler, events))

    def guarded(self, work: Callable[[], None]) -> None:
        """A fault in one corner is written down and must not end the parent of everything."""
        try:
            work()
        except Exception:
            self.log.say_exception("a fault of the keeper, please report it")
            time.sleep(0.01)  # should it come again at once and for ever


def _discard(fd: int, _events: int) -> None:
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        pass
