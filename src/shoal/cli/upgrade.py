"""`shoal upgrade`."""

from __future__ import annotations

from pathlib import Path

import click

from shoal import __version__
from shoal.cli.options import connect, file_option, shoal_command, state_folder
from shoal.cli.output import emit, say

ENVOY_S_MAX = 60.0


@shoal_command(
    "upgrade",
    ("shoal upgrade", "after installing a newer Shoal: it takes over what runs"),
    ("shoal upgrade --envoy", "let another Envoy take over as well, also when none is newer"),
)
@click.option("--envoy", is_flag=True, help="Replace Envoy too, whether or not a newer one is installed.")
@file_option()
def command(envoy: bool, file: Path | None, as_json: bool) -> None:
    """Let this Shoal take over the running app from the one that runs it. No service is restarted, no request is lost.

    Keeper and daemon are replaced. Envoy is replaced when another one is installed than the one that runs, and can take
    over from it: connections that live long (WebSockets, event streams) have 15 seconds to end. A state that an older
    Shoal wrote is brought up to date; a newer Shoal's is refused.
    """
    from shoal.client.upgrade import hand_over, wait_for_envoy

    state = state_folder(file)
    client = connect(file)
    done = hand_over(state, client, __version__)
    words = ""
    if envoy:
        sequence = client.status().sequence
        client.replace_proxy()
        words = wait_for_envoy(client, sequence, timeout_s=ENVOY_S_MAX)
    if as_json:
        import dataclasses

        emit({**dataclasses.asdict(done), "envoy": words or None})
        return
    if done.from_version == done.to_version:
        say(f"Shoal {done.to_version} runs on with a new keeper (pid {done.keeper_pid}) and daemon ({done.daemon_pid})")
    else:
        say(f"Shoal {done.to_version} has taken over from {done.from_version}")
    say(f"{done.replicas} processes of the app went on" + (f"; {words}" if words else ""))
