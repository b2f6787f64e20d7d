"""The resolver of replicas with a way out: the machine's own, which theirs may not be able to reach by its address."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from shoal.errors import EngineError

RESOLV = Path("/etc/resolv.conf")
GATEWAY = "10.79.0.1"
"""Of a replica's way out; questions about names that are sent to it go to the machine's resolver."""


def is_local(text: str) -> bool:
    """Whether a `resolv.conf` names a resolver on the machine's loopback, such as systemd-resolved, first."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                return ip_address(words[1].partition("%")[0]).is_loopback
            except ValueError:
                return False
    return False


def inside(text: str) -> str:
    """The same file for a replica: its resolver is at the gateway, all else is as it was."""
    kept = [line for line in text.splitlines() if line.split()[:1] != ["nameserver"]]
    return "".join(f"{line}\n" for line in [f"nameserver {GATEWAY}", *kept])


def needs_forwarding() -> bool:
    """Whether questions that are sent to the gateway have to be passed on."""
    try:
        return is_local(RESOLV.read_text("utf-8", "surrogateescape"))
    except OSError:
        return False


def file_for(folder: Path) -> Path | None:
    """Written there when a replica needs one of its own; None: the machine's serves. EngineError."""
    try:
        text = RESOLV.read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    if not is_local(text):
        return None
    path = folder / "resolv.conf"
    temporary = folder / ".resolv.conf.tmp"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(inside(text), "utf-8", "surrogateescape")
        temporary.chmod(0o644)
        if not path.exists() or path.read_bytes() != temporary.read_bytes():
            temporary.replace(path)
        else:
            temporary.unlink()
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}") from error
    return path
