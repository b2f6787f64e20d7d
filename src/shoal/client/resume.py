"""Going on after a connection broke: server-sent events by their ids, log lines by their time stamps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shoal.model.status import LogLine


def server_sent(lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """(kind, data) of each event; `("", b"")` for a comment, which says that the daemon is alive."""
    kind, data = "message", b""
    for line in lines:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                yield kind, data
            kind, data = "message", b""
        elif not name:
            yield "", b""
        elif name == b"event":
            kind = value.decode()
        elif name == b"data":
            data = data + b"\n" + value if data else value


@dataclass(slots=True)
class SeenLines:
    """Which lines of a log were given out, so that none is lost or told twice when it is asked for again.

    Lines of a replica come in order, and several may have the same time stamp: what counts is how many of the newest
    stamp there were.
    """

    _newest: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By replica: its newest time stamp, and how many lines with it."""
    _skip: dict[str, tuple[str, int]] = field(default_factory=dict)

    def rewind(self) -> str:
        """From now on, lines come again from the time stamp that is given back; empty: none was seen."""
        self._skip = dict(self._newest)
        return min((at for at, _ in self._newest.values()), default="")

    def is_new(self, line: LogLine) -> bool:
        """Whether to give it out; counts it if so."""
        last, count = self._newest.get(line.replica, ("", 0))
        at = line.at or last
        skip = self._skip.get(line.replica)
        if skip is not None:
            if at < skip[0]:
                return False
            if at == skip[0] and skip[1] > 0:
                self._skip[line.replica] = (at, skip[1] - 1)
                return False
            del self._skip[line.replica]
        self._newest[line.replica] = (at, count + 1 if at == last else 1)
        return True
