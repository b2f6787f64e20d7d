"""What the keeper writes down about each process, so that its successor finds them all: one JSON file each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection

from . import linux

DAEMON = "daemon"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def valid_name(name: str) -> bool:
    """Names become file names."""
    return _NAME.fullmatch(name) is not None


class Record:
    """One process, running or ended. Times are seconds of the epoch."""

    __slots__ = (
        "boot",
        "exit_code",
        "exited_at",
        "hidden",
        "left_behind",
        "log",
        "mounts",
        "name",
        "pid",
        "running",
        "start",
        "started_at",
        "tag",
    )

    def __init__(
        self,
        *,
        name: str,
        pid: int,
        start: int,
        boot: str,
        log: str,
        tag: object,
        started_at: float,
        running: bool = True,
        exit_code: int | None = None,
        exited_at: float | None = None,
        left_behind: bool = False,
        mounts: str = "",
        hidden: object = None,
    ) -> None:
        self.name = name
        self.pid = pid
        self.start = start
        """Clock ticks from boot to its start: with `boot`, what no other process of the same pid has."""
        self.boot = boot
        self.log = log
        self.tag = tag
        self.started_at = started_at
        self.running = running
        self.exit_code = exit_code
        """Negative: the signal that ended it. None: runs, or nobody saw it end."""
        self.exited_at = exited_at
        self.left_behind = left_behind
        """It ended, and others that it had started lived on: as when a command goes to the background."""
        self.mounts = mounts
        """Its mount namespace, where it has one of its own: what it starts has it too, whatever else that gives up."""

        self.hidden = hidden
        """What its log must not show, as parts of its variables: `[["PGPASSWORD", 0, 32], ...]`. The values themselves
        are in its own memory alone."""

    def public(self) -> dict[str, object]:
        """As in the answer to `list`."""
        hidden = ("start", "boot", "mounts", "hidden")
        return {key: getattr(self, key) for key in self.__slots__ if key not in hidden}

    def is_alive(self) -> bool:
        """Whether the process with its pid is still this one. Open a pidfd first: after it, the answer stays true."""
        return self.boot == boot_id() and start_ticks(self.pid) == self.start


class Registry:
    """The folder of records and FIFOs."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def fifo(self, name: str) -> str:
        return f"{self.folder}/{name}.fifo"

    def make_fifo(self, name: str) -> str:
        """The name's FIFO, kept from an earlier process if there is one: descendants of that may still write into it.
        OSError: the file system has none."""
        path = self.fifo(name)
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            pass
        return path

    def save(self, record: Record) -> None:
        """OSError: disk full, read-only."""
        path = f"{self.folder}/{record.name}.json"
        content = {key: getattr(record, key) for key in Record.__slots__}
        # No fsync: it must outlive the keeper, not the machine; after a power cut none of the processes is left.
        with open(path + ".tmp", "w", encoding="utf-8", opener=_private) as file:
            json.dump(content, file)
        os.rename(path + ".tmp", path)

    def load(self) -> tuple[list[Record], list[str]]:
        """All records, by start; and complaints about files that are none."""
        records: list[Record] = []
        complaints: list[str] = []
        for entry in sorted(os.listdir(self.folder)):
            if not entry.endswith(".json"):
                continue
            path = f"{self.folder}/{entry}"
            try:
                with open(path, encoding="utf-8") as file:
                    record = Record(**json.load(file))
                if not valid_name(record.name) or f"{record.name}.json" != entry:
                    raise ValueError(f"it names {record.name!r}")
                records.append(record)
            except (OSError, ValueError, TypeError, AttributeError) as error:
                complaints.append(f"{path} is no record of a process, ignored: {error}")
        return sorted(records, key=lambda record: record.started_at), complaints

    def tidy(self, names: Collection[str]) -> None:
        """Removes what a keeper left that was killed before it had written down a process: of these names, nothing."""
        kept = {f"{name}.{suffix}" for name in names for suffix in ("json", "fifo")}
        for entry in os.listdir(self.folder):
            if entry not in kept and entry.endswith((".tmp", ".fifo")):
                os.unlink(f"{self.folder}/{entry}")

    def destroy(self) -> None:
        """The folder with all that is in it."""
        for entry in os.listdir(self.folder):
            os.unlink(f"{self.folder}/{entry}")
        os.rmdir(self.folder)

    def remove(self, name: str) -> None:
        for path in (f"{self.folder}/{name}.json", self.fifo(name)):
            try:
                os.unlink(path)
            except OSError:
                pass


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def boot_id() -> str:
    """Differs after each boot; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, from `state` on. None: no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def start_ticks(pid: int) -> int | None:
    """None: no such process."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def exit_code_of_stranger(record: Record, pidfd: int | None) -> int | None:
    """How a process ended that is not our child: while its parent has not reaped it /proc tells, afterwards the pidfd.
    None: it runs; or we came too late for the one, and the kernel is too old for the other."""
    fields = _stat(record.pid)
    if fields is not None and int(fields[19]) == record.start and fields[0] in "ZX":
        try:
            # To others than the owner and root, /proc says 0 whatever it was.
            if os.geteuid() in (0, os.stat(f"/proc/{record.pid}").st_uid):
                return os.waitstatus_to_exitcode(int(fields[49]))
        except OSError:
            pass  # reaped meanwhile
    return None if pidfd is None else linux.exit_code_of(pidfd)


def mount_namespace(pid: int | str) -> str:
    """Empty: it ended, or is closed to us."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def has_variable(pid: int, variable: str) -> bool:
    """Whether a process was started with `NAME=value`. Some servers write their title over it."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return variable.encode() in file.read().split(b"\0")
    except OSError:
        return False


def session_members(session: int) -> list[int]:
    """Processes of a session, zombies left out. One system call a process: /proc/PID/stat would take ten times as
    long, and this runs at every stop."""
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) != session:
                    continue
            except OSError:
                continue
            fields = _stat(int(entry))
            if fields and fields[0] not in "ZX":
                found.append(int(entry))
    return found


def children_of(parent: int) -> list[int]:
    """Zombies left out."""
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(int(entry))
            if fields and int(fields[1]) == parent and fields[0] not in "ZX":
                found.append(int(entry))
    return found


def variables_of(pid: int) -> dict[str, str]:
    """What a process was started with. Empty: it has ended."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in entries)
    return {key: value for key, equals, value in pairs if equals}
