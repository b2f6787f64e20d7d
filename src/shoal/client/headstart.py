"""The control plane comes up while the app file is still being read, and is gone again where the file is wrong.

Reading takes 0.3 s, most of it for modules, and so does the first half of the daemon's start: on two processors, one of
them costs nothing. The daemon waits before it touches anything (`engines.local.gate`) until the file was found right.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shoal.client.plane import Departure, dismiss, has_leftovers, plane_runs
from shoal.engines.local import gate
from shoal.engines.local.keeper import start
from shoal.errors import ShoalError
from shoal.paths import StateFolder

_END_S_MAX = 5.0


@contextmanager
def head_start(folder: Path) -> Iterator[None]:
    """Around the reading of an app file in `folder`. Where it raises, nothing has been started.

    Only where the app was up before, for else a wrong file would leave a state folder behind; and only where nothing of
    it runs, for a daemon would take that up. Whatever goes wrong is left to `ensure_plane`, which tells it.
    """
    state = StateFolder.beside(folder)
    if not state.database.is_file() or plane_runs(state) or has_leftovers(state):
        yield
        return
    starting = threading.Thread(target=_start, args=(state,), name="keeper", daemon=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(gate.closed(state.gate))
        except OSError:
            yield
            return
        starting.start()
        try:
            yield
        except BaseException:
            starting.join()
            with Departure(state) as departure:
                dismiss(state)
                departure.wait(_END_S_MAX)
            raise
    starting.join()


def _start(state: StateFolder) -> None:
    try:
        start.start_keeper(state, [sys.executable, "-m", "shoal.daemon", str(state.root)])
    except ShoalError:
        pass
