"""From a problem document, or a broken connection, back to the error that it stands for."""

from __future__ import annotations

import json
from pathlib import Path

from shoal.errors import NotRunningError, ShoalError, UsageError


def from_problem(status: int, body: bytes) -> ShoalError:
    """The subclass of ShoalError with the document's `code`. A body that is no problem document is told as it is."""
    try:
        plain = json.loads(body)
    except ValueError:
        plain = None
    if not isinstance(plain, dict) or not isinstance(plain.get("detail"), str):
        said = body[:200].decode("utf-8", "replace").strip()
        return ShoalError(f"the daemon answered {status}: {said}", way_out="see 'shoal logs daemon'")
    lines = plain.get("lines")
    kind = _by_code(ShoalError).get(str(plain.get("code")), UsageError if 400 <= status < 500 else ShoalError)
    error = kind.__new__(kind)  # a subclass may build its message itself; here it is known already
    ShoalError.__init__(
        error,
        plain["detail"],
        way_out=str(plain.get("way_out") or ""),
        detail="\n".join(map(str, lines)) if isinstance(lines, list) else "",
    )
    return error


def not_running() -> NotRunningError:
    return NotRunningError("the app is not running", way_out="start it: shoal up")


def refused(path: Path, error: OSError) -> NotRunningError:
    """The socket is there, and cannot be opened."""
    return NotRunningError(
        f"cannot talk to the app through {path}: {error.strerror or error}", way_out="check whose socket that is"
    )


def cut_off() -> NotRunningError:
    return NotRunningError(
        "the daemon ended while it answered", way_out="its keeper starts it again within seconds: try once more"
    )


def too_slow(timeout_s: float) -> NotRunningError:
    return NotRunningError(
        f"the daemon did not answer within {timeout_s:g} s", way_out="see what it does: .shoal/logs/daemon.log"
    )


def _by_code(kind: type[ShoalError]) -> dict[str, type[ShoalError]]:
    found: dict[str, type[ShoalError]] = {}
    for child in kind.__subclasses__():
        found |= {child.code: child} | _by_code(child)
    return found
