"""The table of processes: starts, signals, reaps, adopts and forgets them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from . import child, linux
from .logs import LogFile
from .networks import Network, namespaces_of
from .registry import (
    Record,
    Registry,
    boot_id,
    children_of,
    exit_code_of_stranger,
    has_variable,
    mount_namespace,
    session_members,
    start_ticks,
    valid_name,
    variables_of,
)
from .taps import Desk, Tap

Emit = Callable[[str, Record], None]


class RequestError(Exception):
    """A request that cannot be granted: a code for machines, words for people."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class Process:
    """One we started or adopted; stays here, ended, until it is forgotten."""

    __slots__ = ("own", "pidfd", "record", "tap")

    def __init__(self, record: Record, pidfd: int | None, tap: Tap | None, *, own: bool) -> None:
        self.record = record
        self.pidfd = pidfd
        self.tap = tap
        self.own = own
        """Our child: the kernel gives us its exit code and keeps its pid until we have it."""


class Processes:
    """Every process by its name, which is one's at a time."""

    def __init__(self, registry: Registry, desk: Desk, emit: Emit, *, files_max: int | None) -> None:
        self.by_name: dict[str, Process] = {}
        self.taps: list[Tap] = []
        """Also those of forgotten processes, while a descendant holds the FIFO."""
        self.new_taps: list[Tap] = []
        """Not watched yet."""
        self._registry = registry
        self._desk = desk
        self._emit = emit
        self._files_max = files_max
        self._own: dict[int, Process] = {}

    def spawn(
        self,
        name: str,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        log: str,
        tag: object,
        namespace: child.Namespace | None,
        hidden: object = None,
        hide: object = None,
    ) -> int:
        """Returns the pid. `hide`: texts that its log must not show; `hidden`: where a later keeper finds them.
        RequestError: `exists`, `exec-failed`, `namespace-failed`, `network-failed`, `files-failed`, `bad-request`."""
        if not valid_name(name):
            raise RequestError("bad-request", f"{name!r} cannot name a process: letters, digits, '.', '_', '-' only")
        old = self.by_name.get(name)
        if old is not None and old.record.running:
            raise RequestError("exists", f"{name} runs already, with pid {old.record.pid}")
        if old is not None:
            self._sweep(old)
        tap = self._tap_for(name, log, old)
        tap.hide(
            [os.fsencode(text) for text in hide if isinstance(text, str) and text] if isinstance(hide, list) else []
        )
        process: Process | None = None

        def born(pid: int) -> None:
            nonlocal process
            started = start_ticks(pid)
            mounts = mount_namespace(pid)
            record = Record(
                name=name, pid=pid, start=started or 0, boot=boot_id(), log=log, tag=tag, started_at=time.time(),
                mounts=mounts if mounts != mount_namespace("self") else "", hidden=hidden,
            )  # fmt: skip
            self._registry.save(record)
            process = Process(record, linux.open_pidfd(pid), tap, own=True)

        try:
            pid = child.spawn(
                argv,
                env,
                cwd,
                self._registry.fifo(name),
                namespace=namespace,
                files_max=self._files_max,
                born=born,
            )
        except (child.ExecError, OSError, ValueError) as error:
            if process is not None and process.pidfd is not None:
                os.close(process.pidfd)
            if old is not None:
                self._save(old.record)
            else:
                self.drop(tap)
                self._registry.remove(name)
            code = error.code if isinstance(error, child.ExecError) else "exec-failed"
            raise RequestError(code, str(error)) from error
        assert process is not None
        self.by_name[name] = self._own[pid] = process
        self._emit("spawned", process.record)
        return pid

    def network(self, kind: str, mesh: str, address: str) -> Network:
        """To be closed by the caller. `mesh`: the name of the process in the mesh network. RequestError."""
        process = self.by_name.get(mesh)
        if process is None or not process.record.running:
            raise RequestError("network-failed", f"no process {mesh!r} runs that is in the mesh network")
        try:
            user, net = namespaces_of(process.record.pid)
        except OSError as error:
            raise RequestError("network-failed", f"the networks of {mesh!r} are closed to us: {error}") from error
        network = Network(kind, address=address, user=user, net=net)
        if not process.record.is_alive():
            network.close()
            raise RequestError("network-failed", f"{mesh!r} has just ended")
        return network

    def adopt(self) -> None:
        """Finds what an earlier keeper started."""
        records, complaints = self._registry.load()
        for words in complaints:
            self._desk.say(words)
        for record in records:
            self._adopt(record)
        self._registry.tidy(self.by_name)
        self._desk.mark.clear()

    def _adopt(self, record: Record) -> None:
        pidfd: int | None = None
        alive = False
        if record.running:
            try:
                pidfd = linux.open_pidfd(record.pid)
                alive = record.is_alive()
            except ProcessLookupError:
                pass
            if not alive and pidfd is not None:
                os.close(pidfd)
                pidfd = None
        tap: Tap | None = None
        try:
            tap = Tap(record.name, self._registry.make_fifo(record.name), LogFile(record.log), self._desk)
            if alive:
                tap.hide(hidden_values(record.hidden, variables_of(record.pid)))
            tap.recover()
            self._watch(tap)
        except OSError as error:
            self._desk.say(f"what {record.name} writes is lost: {error}")
        process = self.by_name[record.name] = Process(record, pidfd, tap, own=False)
        if alive and (code := exit_code_of_stranger(record, pidfd)) is not None:
            self.ended(process, code)  # just now: its parent has not even reaped it
        elif alive:
            self._desk.say(f"adopted {record.name}, pid {record.pid}")
        elif record.running:
            self._desk.say(f"{record.name}, pid {record.pid}, ended while no keeper watched")
            self.ended(process, None)

    def signal(self, name: str, number: int, *, group: bool) -> None:
        """RequestError: `unknown` when no such process lives, `bad-request` when there is no such signal."""
        process = self.by_name.get(name)
        if process is None or not process.record.running:
            raise RequestError("unknown", f"no process named {name} runs")
        pid = process.record.pid
        try:
            if not group:
                linux.send_signal(pid, process.pidfd, number)
                return
            linux.send_signal(pid, process.pidfd, 0)  # still the one we mean
            os.killpg(pid, number)
        except ProcessLookupError:
            raise RequestError("unknown", f"{name}, pid {pid}, has just ended") from None
        except (OSError, ValueError) as error:
            raise RequestError("bad-request", f"signal {number} for {name}: {error}") from error
        self._signal_session(pid, number)

    def _signal_session(self, session: int, number: int) -> None:
        """Those of a session that made process groups of their own, as a shell with job control does."""
        for pid in session_members(session):
            try:
                if os.getpgid(pid) == session:
                    continue
                pidfd = linux.open_pidfd(pid)
                if pidfd is None:
                    continue
                try:
                    if os.getsid(pid) == session:
                        linux.send_signal(pid, pidfd, number)
                finally:
                    os.close(pidfd)
            except OSError:
                pass

    def forget(self, name: str) -> None:
        """RequestError: `unknown`, or `exists` while it runs."""
        process = self.by_name.get(name)
        if process is None:
            raise RequestError("unknown", f"no process named {name}")
        if process.record.running:
            raise RequestError("exists", f"{name} still runs, with pid {process.record.pid}")
        self._sweep(process)
        self._registry.remove(name)
        del self.by_name[name]

    def listing(self) -> list[dict[str, object]]:
        return [process.record.public() for process in self.by_name.values()]

    def running(self) -> list[Process]:
        return [process for process in self.by_name.values() if process.record.running]

    def reap(self) -> None:
        """Takes every ended child: ours, and orphans that came to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            process = self._own.pop(pid, None)
            if process is not None:
                self.ended(process, os.waitstatus_to_exitcode(status))

    def ended(self, process: Process, exit_code: int | None) -> None:
        """Writes down an end and tells everybody, after the last log line is in its file."""
        record = process.record
        if not record.running:
            return
        record.running, record.exit_code, record.exited_at = False, exit_code, time.time()
        if process.pidfd is not None:
            os.close(process.pidfd)
            process.pidfd = None
        record.left_behind = self._has_leftovers(record) or bool(self._escaped(record))
        if record.left_behind:
            self._desk.say(f"{record.name} ended and left processes behind; they get SIGTERM")
            self._signal_leftovers(process, signal.SIGTERM)
        if process.tap is not None:
            process.tap.drain(time.monotonic(), record.exited_at)
        self._save(record)
        self._emit("exited", record)

    def _has_leftovers(self, leader: Record) -> bool:
        """Whether others of an ended leader's session live. While there are any, no new process gets its number."""
        start = start_ticks(leader.pid)
        if start is None:
            try:
                os.killpg(leader.pid, 0)
                return True
            except OSError:
                return False
        # Not reaped yet by a parent who is not us: its group is there with or without others. Else a new process.
        return start == leader.start and bool(session_members(leader.pid))

    def _escaped(self, leader: Record) -> list[int]:
        """What an ended leader had started and that has a session of its own now, as daemons do: orphans, so ours."""
        known = {process.record.pid for process in self.by_name.values() if process.record.running}
        return [
            pid
            for pid in children_of(os.getpid())
            if pid not in known
            and (
                (leader.mounts and mount_namespace(pid) == leader.mounts)
                or has_variable(pid, f"SHOAL_REPLICA={leader.name}")
            )
        ]

    def _signal_leftovers(self, process: Process, number: int) -> None:
        leader = process.record
        for pid in self._escaped(leader) if leader.left_behind else ():
            try:
                os.kill(pid, number)  # our child: only we reap it
            except OSError:
                pass
        if leader.left_behind and self._has_leftovers(leader):
            try:
                os.killpg(leader.pid, number)
            except OSError:
                pass
            self._signal_session(leader.pid, number)

    def _sweep(self, process: Process) -> None:
        """The next process of that name must not meet what the last one left."""
        self._signal_leftovers(process, signal.SIGKILL)

    def signal_orphans(self, number: int) -> bool:
        """Signals what processes left behind, also what escaped their sessions. False: nothing did."""
        for process in self.by_name.values():
            self._signal_leftovers(process, number)
        orphans = children_of(os.getpid())
        for pid in orphans:
            try:
                os.kill(pid, number)  # our children: only we reap them
            except OSError:
                pass
        return bool(orphans)

    def remove_all(self) -> None:
        """Nothing runs and nobody will ask again. OSError: something is left."""
        self.by_name.clear()
        self._registry.destroy()

    def _save(self, record: Record) -> None:
        try:
            self._registry.save(record)
        except OSError as error:
            self._desk.say(f"cannot write down {record.name}: {error}")

    def _tap_for(self, name: str, log: str, old: Process | None) -> Tap:
        """The tap of the name's last process goes on, so that what its descendants write is kept."""
        tap = old.tap if old is not None else None
        if tap is not None and tap.fd >= 0:
            if tap.log.path == log and not tap.ended:
                return tap
            tap.drain(time.monotonic(), time.time())
            self.drop(tap)
        try:
            tap = Tap(name, self._registry.make_fifo(name), LogFile(log), self._desk)
        except OSError as error:
            raise RequestError("exec-failed", f"cannot make the FIFO of {name}: {error}") from error
        self._watch(tap)
        return tap

    def _watch(self, tap: Tap) -> None:
        self.taps.append(tap)
        self.new_taps.append(tap)

    def drop(self, tap: Tap) -> None:
        """Closes a tap that nothing will flow through any more."""
        tap.close()
        if tap in self.taps:
            self.taps.remove(tap)
        if tap in self.new_taps:
            self.new_taps.remove(tap)


def hidden_values(hidden: object, env: dict[str, str]) -> list[bytes]:
    """`hidden`: see `Record.hidden`. What it does not fit is left out."""
    found: set[str] = set()
    for part in hidden if isinstance(hidden, (list, tuple)) else ():
        if isinstance(part, (list, tuple)) and len(part) == 3:
            name, start, end = part
            if isinstance(start, int) and isinstance(end, int):
                found.add(env.get(str(name), "")[start:end])
    return sorted((os.fsencode(value) for value in found if value), key=len, reverse=True)
