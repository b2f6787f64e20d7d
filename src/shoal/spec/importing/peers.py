"""Which services a text names as hosts: `http://users:8000`, `db:5432`, `@db/app`, and `db` alone in a `DB_HOST`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_BEFORE = r"(?:(?<=//)|(?<=@)|(?<![\w.$/@{-]))"
_ALONE = re.compile(
    r"(?:HOST|HOSTS|HOSTNAME|ADDR|ADDRESS|SERVER|SERVERS|BROKER|BROKERS|ENDPOINT|URL|URI|UPSTREAM|NODES?|PEERS?)\Z"
)


def _pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    """Of all names at once, the longest first: `user-db` is not `user`."""
    words = sorted(set(names), key=lambda name: (-len(name), name))
    if not words:
        return None
    any_name = "|".join(re.escape(word) for word in words)
    # With a port; or after // or @, where nothing but a host can be.
    return re.compile(
        rf"{_BEFORE}(?P<host>{any_name})(?::(?P<port>\d{{1,5}})(?!\d)|(?=:\$\{{))"
        rf"|(?:(?<=//)|(?<=@))(?P<bare>{any_name})(?=[/?\"'\s,;]|\Z)"
    )


class Names:
    """The hosts that services are known by."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self._pattern = _pattern(self.names)

    def found(self, text: str, variable: str = "") -> list[tuple[str, int | None]]:
        """Each host that is named, with its port if it has one. `variable`: whose value it is."""
        if text in self.names and _ALONE.search(variable.upper()):
            return [(text, None)]
        if self._pattern is None:
            return []
        hits = self._pattern.finditer(text)
        return [(m["host"] or m["bare"], _port(m["port"])) for m in hits]

    def replaced(self, text: str, change: Callable[[str, int | None], str], variable: str = "") -> str:
        """`change` gives what to write for a host and its port, together: `127.0.0.1:5432`."""
        if text in self.names and _ALONE.search(variable.upper()):
            return change(text, None)
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda m: change(m["host"] or m["bare"], _port(m["port"])), text)


def _port(text: str | None) -> int | None:
    return int(text) if text and 1 <= int(text) <= 65535 else None
