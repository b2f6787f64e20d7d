"""A reader of lag to which the numbers are told."""

from __future__ import annotations

import asyncio

from shoal.model.app import App
from shoal.model.lag import NOTHING, Lag


class FakeLagReader:
    """Implements `ports.LagReader`."""

    def __init__(self) -> None:
        self.lag: Lag = NOTHING
        self.takes_s = 0.0
        self.broken: Exception | None = None
        """When set, raised instead."""
        self.read_apps: list[str] = []
        """Names of the apps that it was asked about, each time."""

    async def read(self, app: App) -> Lag:
        self.read_apps.append(app.name)
        await asyncio.sleep(self.takes_s)
        if self.broken is not None:
            raise self.broken
        return self.lag
