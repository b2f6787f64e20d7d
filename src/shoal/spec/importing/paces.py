"""How often compose asks a health check, in the app file's words."""

from __future__ import annotations

import re
from typing import Any

from shoal.spec.importing.keys import accepts
from shoal.spec.importing.parts import Part
from shoal.spec.importing.writing import Draft

_KEYS = {"interval": "interval", "timeout": "timeout", "retries": "failures"}
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s)")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def carry(check: dict[str, Any], part: Part, draft: Draft) -> None:
    """`interval`, `timeout` and `retries` go to `health`. `start_period`, in which failures do not count, needs
    nothing: before it is ready a replica is never restarted for its health."""
    written = draft.keys["health"]
    health: dict[str, Any] = dict(written) if isinstance(written, dict) else _as_mapping(written)
    lost = []
    for theirs, ours in _KEYS.items():
        if theirs not in check:
            continue
        value = _times(check[theirs]) if ours == "failures" else _pause(check[theirs])
        if value is not None and accepts("health", {**health, ours: value}):
            health[ours] = value
        else:
            lost.append(theirs)
    if health.keys() & set(_KEYS.values()):
        draft.keys["health"] = health
    if lost:
        part.facts.lose("healthcheck", ", ".join(lost), "this is no pace that Shoal can keep")


def carry_grace(part: Part, draft: Draft) -> None:
    """`stop_grace_period` has the same name here, and the same 10 s where it is missing."""
    if (written := part.facts.parts.get("stop_grace_period")) is None:
        return
    value = _pause(written)
    if value is not None and accepts("stop_grace_period", value):
        draft.keys["stop_grace_period"] = value
    else:
        part.facts.lose("stop_grace_period", str(written), "this is no time from 0s to 60m")


def _as_mapping(written: str) -> dict[str, Any]:
    return {"grpc": True} if written == "grpc" else {"path": written}


def _times(value: object) -> int | None:
    return int(str(value)) if str(value).isdigit() else None


def _pause(value: object) -> str | None:
    """`1m30s` -> `90s`; None: no time that is known."""
    text = str(value)
    parts = _GO_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    if len(parts) == 1 and parts[0][1] != "h":
        return text
    return f"{sum(float(number) * _UNIT_S[unit] for number, unit in parts):g}s"
