"""`shoal ps`."""

from __future__ import annotations

import time
from pathlib import Path

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import emit, say
from shoal.cli.views import replicas_table


@shoal_command(
    "ps",
    ("shoal ps", "every replica: pid, age of its state, restarts, and why it is so"),
    ("shoal ps -f examples/shop --json", "those of another app, as JSON"),
)
@file_option()
def command(file: Path | None, as_json: bool) -> None:
    """List the replicas."""
    status = connect(file).status()
    replicas = [replica for service in status.services for replica in service.replicas]
    if as_json:
        emit(replicas)
    else:
        say(*replicas_table(replicas, time.time()))
