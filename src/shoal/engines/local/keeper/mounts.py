"""Files and folders at absolute paths, for one process and its children alone: bind mounts in its mount namespace.

A path that does not exist needs a folder that has it. The machine's own is not touched: an empty file system takes the
place of the nearest folder that exists, with all that is in that folder bound into it, and what is missing made beside
it. Where that folder is `/`, it becomes the root of the namespace.
"""

from __future__ import annotations

import os
import stat

from . import linux

ENTRIES_MAX = 5000
"""Of a folder that something is to be put into: each costs a mount."""
_KEPT = ((os.ST_NOSUID, 2), (os.ST_NODEV, 4), (os.ST_NOEXEC, 8), (os.ST_NOATIME, 1024), (os.ST_NODIRATIME, 2048),
         (os.ST_RELATIME, 1 << 21))  # fmt: skip
"""What `statvfs` tells of a mount -> what a remount has to repeat, or a user may not make it."""


class MountError(Exception):
    """What cannot be put where, in words."""


class Mount:
    """`source`, absolute, is what a process finds at `target`, absolute and without `..`."""

    __slots__ = ("read_only", "source", "target")

    def __init__(self, source: str, target: str, *, read_only: bool) -> None:
        self.source = source
        self.target = target
        self.read_only = read_only


class Mounts:
    """`place`: an empty folder of ours, where an intermediate file system can be mounted."""

    __slots__ = ("place", "wanted")

    def __init__(self, place: str, wanted: list[Mount]) -> None:
        self.place = place
        self.wanted = wanted


def put(mounts: Mounts) -> None:
    """In a mount namespace of our own, whose mounts do not spread. The working directory is entered again. MountError:
    half of it may be done."""
    folder = os.getcwd()
    wanted = sorted(mounts.wanted, key=lambda mount: mount.target.count("/"))
    try:
        missing: dict[str, list[Mount]] = {}
        for mount in wanted:
            if not os.path.lexists(mount.target) and _around(mount, wanted) is None:
                missing.setdefault(nearest(mount.target), []).append(mount)
        # `/` last: what was made below it goes along.
        for place in sorted(missing, key=len, reverse=True):
            _make_room(place, missing[place], mounts.place)
        os.chdir(folder)
        for mount, fd in [(mount, _open(mount.source)) for mount in wanted]:
            _bind(mount, fd, wanted)
        os.chdir(folder)
    except OSError as error:
        raise MountError(f"{error.filename or 'a mount'}: {error.strerror}") from error


def nearest(path: str) -> str:
    """The deepest folder around `path` that exists, without links in its name."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    path = os.path.realpath(path)
    return path if os.path.isdir(path) else os.path.dirname(path)


def _around(mount: Mount, wanted: list[Mount]) -> Mount | None:
    """The innermost of the others that has this one's target inside."""
    around = [other for other in wanted if mount.target.startswith(other.target.rstrip("/") + "/")]
    return around[-1] if around else None


def _open(source: str) -> int:
    """Before anything is mounted: a target may hide another's source."""
    try:
        return os.open(source, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"{source}: {error.strerror}") from error


def _bind(mount: Mount, fd: int, wanted: list[Mount]) -> None:
    is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
    around = _around(mount, wanted)
    target = os.path.realpath(mount.target)
    if not os.path.exists(target):
        if around is None or around.read_only:
            inside = f", inside {around.target}, which is read-only" if around else ""
            raise MountError(f"nothing is at {mount.target}{inside}, and nothing can be made there")
        _make(target, is_folder)
    if os.path.isdir(target) != is_folder:
        kinds = ("a folder", "a file") if is_folder else ("a file", "a folder")
        raise MountError(f"{mount.source} is {kinds[0]}, and at {mount.target} is {kinds[1]}")
    try:
        linux.mount(f"/proc/self/fd/{fd}", target, None, linux.MS_BIND | linux.MS_REC)
        if mount.read_only:
            flags = os.statvfs(target).f_flag
            kept = sum(flag for told, flag in _KEPT if flags & told)
            linux.mount("none", target, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | kept)
    except OSError as error:
        raise MountError(f"putting {mount.source} at {mount.target} was refused ({error.strerror})") from error
    finally:
        os.close(fd)


def _make_room(folder: str, missing: list[Mount], place: str) -> None:
    """Covers `folder` by one with all that is in it, and a file or a folder for each of the missing."""
    place = os.path.realpath(place)
    names = os.listdir(folder)
    if len(names) > ENTRIES_MAX:
        raise MountError(
            f"{missing[0].target} does not exist, and {folder} has too many entries to be put together anew; make it"
        )
    inside = os.path.relpath(place, folder)
    own = None if inside.startswith("..") else inside.partition("/")[0]
    linux.mount("none", place, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=8m,mode=755")
    if own is not None:
        # It takes along what we are just making, once; later it would take along all of it.
        _copy(folder, place, own)
        linux.unmount(f"{place}/{inside}")
    for name in names:
        if name != own:
            _copy(folder, place, name)
    for mount in missing:
        _make(place + "/" + os.path.relpath(mount.target, folder), os.path.isdir(mount.source))
    os.chmod(place, stat.S_IMODE(os.stat(folder).st_mode))
    if folder == "/":
        os.chdir(place)
        linux.pivot_root(".", ".")
        linux.unmount(".")
        os.chdir("/")
    else:
        linux.mount(place, folder, None, linux.MS_MOVE)


def _copy(folder: str, place: str, name: str) -> None:
    old, new = os.path.join(folder, name), f"{place}/{name}"
    try:
        mode = os.lstat(old).st_mode
    except FileNotFoundError:
        return  # gone since it was listed
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(old), new)
        return
    _make(new, stat.S_ISDIR(mode))
    try:
        linux.mount(old, new, None, linux.MS_BIND | linux.MS_REC)
    except FileNotFoundError:
        pass


def _make(path: str, folder: bool) -> None:
    os.makedirs(path if folder else os.path.dirname(path), exist_ok=True)
    if not folder:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
