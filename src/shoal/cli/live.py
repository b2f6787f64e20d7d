"""Tables that stay in place on a terminal. The only module that loads rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text


class Display:
    """Lines (already coloured) that are drawn over their previous state."""

    def __init__(self) -> None:
        self._live = Live(console=Console(highlight=False, soft_wrap=True), auto_refresh=False, transient=True)
        self._shown: list[str] = []

    def __enter__(self) -> Display:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, lines: Sequence[str]) -> None:
        if list(lines) == self._shown:
            return
        self._shown = list(lines)
        text = Text.from_ansi("\n".join(lines))
        text.no_wrap, text.overflow = True, "ellipsis"
        self._live.update(text, refresh=True)


def watch_lines(draw: Callable[[], Sequence[str]], *, every_s: float) -> None:
    """Draws again and again, until `draw` raises or the user interrupts."""
    with Display() as display:
        while True:
            display.show(draw())
            time.sleep(every_s)
