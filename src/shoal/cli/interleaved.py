"""Many services in one stream of lines, each with its name before it. Used by threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shoal.cli.output import clean, emit_line, paint, say, show_error
from shoal.errors import ShoalError
from shoal.model.status import AppStatus, LogLine

if TYPE_CHECKING:
    from shoal.model.journal import JournalEntry

COLOURS = ("cyan", "magenta", "blue", "green", "yellow")
"""Of the services, in the file's order; red and bold are Shoal's own."""
OWN = "shoal"


class Interleaved:
    """Prints whole lines only. With `as_json` each is an object."""

    def __init__(self, names: Sequence[str], *, as_json: bool) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()
        self._closed = False
        self._colours: dict[str, str] = {}
        self._width = len(OWN)
        self.services(names)

    def services(self, names: Sequence[str]) -> None:
        """Widens the column for names that are new."""
        for name in names:
            self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        self._width = max([self._width, *(len(name) for name in names)])

    def close(self) -> None:
        """What followers still find is not shown any more."""
        self._closed = True

    def log(self, service: str, line: LogLine) -> None:
        if not self._closed:
            self._put(service, clean(line.text), {"log": service, "replica": line.replica, "text": line.text})

    def event(self, entry: JournalEntry, service: str, words: str) -> None:
        if self._closed:
            return
        if self._as_json:
            emit_line(entry)
        else:
            self._put(service, self._mark(words), None)

    def reload(self, service: str, files: Sequence[str]) -> None:
        shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        self._put(service, self._mark(f"reloads: {shown}"), {"reload": service, "files": list(files)})

    def up(self, status: AppStatus, words: str, lines: Sequence[str]) -> None:
        if self._as_json:
            with self._lock:
                emit_line(status)
            return
        self.say("", words)
        for line in lines:
            self.say("", line)

    def say(self, service: str, words: str) -> None:
        """A line of Shoal's own, about a service or about all."""
        self._put(service, self._mark(words) if service else words, {"service": service or None, "message": words})

    def error(self, error: ShoalError) -> None:
        with self._lock:
            show_error(error)

    def _mark(self, words: str) -> str:
        """Tells Shoal's words from those that a service printed."""
        return paint(f"-- {clean(words)}", "bold")

    def _put(self, service: str, text: str, data: dict[str, object] | None) -> None:
        with self._lock:
            if self._as_json:
                if data is not None:
                    emit_line(data)
                return
            name = (service or OWN).ljust(self._width)
            say(f"{paint(f'{name} |', self._colours.get(service, 'dim'))} {text}")
