"""Who listens where: sockets in /proc/net/tcp, joined by inode with the file descriptors of processes."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A listening TCP socket of this machine (of our network namespace)."""

    host: str
    """`0.0.0.0`, `127.0.0.1`, `::`."""
    port: int
    uid: int
    """Of who made it."""
    inode: int

    @property
    def is_wildcard(self) -> bool:
        return self.host in ("0.0.0.0", "::")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process that holds a port. `pid` None: one of another user, whose files we may not see."""

    pid: int | None
    command: str
    """Its short name (`nginx`), else `of user 1000`."""

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})" if self.pid is not None else f"a process {self.command}"


def listeners(proc: Path = Path("/proc")) -> list[Listener]:
    """All of them. Empty where there is no /proc."""
    found: list[Listener] = []
    for name in ("tcp", "tcp6"):
        try:
            text = (proc / "net" / name).read_text("ascii", "replace")
        except OSError:
            continue
        found += parse(text)
    return found


def parse(text: str) -> list[Listener]:
    """The listening sockets in the text of /proc/net/tcp or tcp6."""
    found: list[Listener] = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            address, _, port = fields[1].partition(":")
            found.append(Listener(host=_host(address), port=int(port, 16), uid=int(fields[7]), inode=int(fields[9])))
    return found


def listeners_of(session: int) -> list[Listener]:
    """Where the processes of a session listen: a replica's, whose leader's pid is the session's number."""
    inodes = {inode for pid in session_members(session) for inode in _socket_inodes(pid)}
    return [listener for listener in listeners() if listener.inode in inodes] if inodes else []


def owner_of(port: int, *, host: str | None = None, among: Iterable[Listener] | None = None) -> Owner | None:
    """Who listens on a port, on any address or such that `host` cannot be bound as well. None: nobody."""
    known = listeners() if among is None else among
    meant = [one for one in known if one.port == port and (host is None or conflicts(one.host, host))]
    owner: Owner | None = None
    for listener in meant:
        owner = owner_by_inode(listener)
        if owner.pid is not None:
            return owner
    return owner


def owner_by_inode(listener: Listener) -> Owner:
    for pid in _processes():
        if listener.inode in _socket_inodes(pid):
            return Owner(pid=pid, command=command_of(pid))
    return Owner(pid=None, command=f"of user {listener.uid}")


def conflicts(held: str, wanted: str) -> bool:
    """Whether one who listens on `held` keeps another from binding `wanted`, the port being equal."""
    if held == wanted or held == "::":  # Linux: [::] takes the IPv4 addresses too, unless it says otherwise
        return True
    return held == "0.0.0.0" and ":" not in wanted


def session_members(session: int) -> list[int]:
    """The processes of a session, its leader first; zombies too."""
    found = [pid for pid in _processes() if session_of(pid) == session]
    return sorted(found, key=lambda pid: (pid != session, pid))


def session_of(pid: int) -> int | None:
    """None: no such process."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def belongs_to(pid: int, sessions: Collection[int]) -> bool:
    return session_of(pid) in sessions


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip() or "?"
    except OSError:
        return "?"


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - there are many
    except OSError:
        return []


def _socket_inodes(pid: int) -> set[int]:
    found: set[int] = set()
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    target = os.readlink(entry.path)  # noqa: PTH115 - of thousands
                except OSError:
                    continue
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    except OSError:
        pass  # ended, or another user's
    return found


def _host(text: str) -> str:
    """`0100007F` -> `127.0.0.1`: words of 32 bits in the machine's byte order."""
    raw = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
