"""When the daemon is started again. It is the only process that the keeper restarts: an Envoy without a daemon would
come back with no listeners, and only the daemon knows how a replica is to be started."""

from __future__ import annotations

BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 30.0
HEALTHY_S = 60.0
"""Up for so long, it has no ends behind it."""
LASTED_S = 0.5
"""Up for so long, and for longer than the last back-off, the next one is the shortest again: somebody kills it."""
FORGIVEN = 20
"""So many ends in a row, and no more, do not add to the back-off of one that lasts."""


class DaemonPolicy:
    """All times are monotonic seconds."""

    def __init__(self, *, wanted: bool) -> None:
        self.due: float | None = 0.0 if wanted else None
        """When to start it; None: not now."""
        self._wanted = wanted
        self._backoff_s = 0.0
        self._ends = 0
        """In a row."""
        self._started_at = 0.0

    def started(self, now: float) -> None:
        self._started_at = now
        self.due = None

    def ended(self, now: float) -> float:
        """It ended, or could not be started. Returns the seconds until its next start, 0 when there is none."""
        if not self._wanted:
            self.due = None
            return 0.0
        up_s = now - self._started_at
        self._ends = 1 if up_s >= HEALTHY_S else self._ends + 1
        if up_s >= max(LASTED_S, self._backoff_s) and self._ends <= FORGIVEN:
            self._backoff_s = 0.0
        self._backoff_s = min(max(self._backoff_s * 2, BACKOFF_S_MIN), BACKOFF_S_MAX)
        self._started_at = self.due = now + self._backoff_s
        return self._backoff_s

    def stop(self) -> None:
        self._wanted = False
        self.due = None
