"""Whether the Envoy that runs should be replaced, and whether its successor has taken over."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shoal.errors import EngineError
from shoal.xds.admin import admin_get

_ANSWER_S_MAX = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Between the Envoy that runs and the one that would be started now."""

    words: str
    """`Envoy 1.41.0 is installed, 1.40.0 runs`."""
    takes_over: bool
    """Whether the new one can take the sockets of the old: both have the same hot restart version."""


async def is_live(socket: Path, epoch: int) -> bool:
    """Whether the Envoy that answers on the admin socket is the one of this restart epoch, and serves. Envoys of two
    epochs open the same socket: the younger one's wins."""
    try:
        info = json.loads(await admin_get("/server_info", socket, timeout_s=2.0))
    except (EngineError, ValueError):
        return False
    options = info.get("command_line_options", {})
    return bool(info.get("state") == "LIVE" and options.get("restart_epoch", 0) == epoch)


def difference(pid: int, binary: Path, config: Path, wanted_config: str) -> Difference | None:
    """None: what runs is what would be started. Asks both programs when their files differ: some 0.2 s.

    `config`: the bootstrap that `pid` was started with.
    """
    # The running program by its process: its file may have been replaced, or be gone.
    running = Path(f"/proc/{pid}/exe")
    try:
        same_file = os.path.samestat(running.stat(), binary.stat())
    except OSError:
        return None
    try:
        same_config = config.read_text() == wanted_config
    except OSError:
        same_config = True  # nobody knows what it was; that is no reason
    if same_file:
        return None if same_config else Difference(words="its start configuration has changed", takes_over=True)
    old, new = version(running), version(binary)
    if old == new and same_config:
        return None  # the same release, installed again
    words = f"Envoy {new} is installed, {old} runs" if old != new else "its start configuration has changed"
    return Difference(
        words=words, takes_over=_ask(running, "--hot-restart-version") == _ask(binary, "--hot-restart-version")
    )


def version(binary: Path) -> str:
    """`1.40.0`; empty when it does not say."""
    # 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL
    parts = _ask(binary, "--version").partition("version: ")[2].split("/")
    return parts[1] if len(parts) > 1 else ""


def _ask(binary: Path, option: str) -> str:
    """Envoy answers this one on stdout, that one on stderr."""
    try:
        done = subprocess.run(
            [str(binary), option], capture_output=True, text=True, timeout=_ANSWER_S_MAX, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()
