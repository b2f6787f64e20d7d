"""When the daemon is started again. It is the only process that the keeper restarts: an Envoy without a daemon would
come back with no listeners, and only the daemon knows how a replica is to be started."""

from __future__ import annotations

BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 30.0
HEALTHY_S = 60.0
"""Up for so long, the next back-off is the shortest again."""


class DaemonPolicy:
    """All times are monotonic seconds."""

    def __init__(self, *, wanted: bool) -> None:
        self.due: float | None = 0.0 if wanted else None
        """When to start it; None: not now."""
        self._wanted = wanted
        self._backoff_s = BACKOFF_S_MIN
        self._started_at = 0.0

    def started(self, now: float) -> None:
        self._started_at = now
        self.due = None

    def ended(self, now: float) -> float:
        """It ended, or could not be started. Returns the seconds until its next start, 0 when there is none."""
        if not self._wanted:
            self.due = None
            return 0.0
        if now - self._started_at >= HEALTHY_S:
            self._backoff_s = BACKOFF_S_MIN
        wait_s = self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_S_MAX)
        self._started_at = self.due = now + wait_s
        return wait_s

    def stop(self) -> None:
        self._wanted = False
        self.due = None
