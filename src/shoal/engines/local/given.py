"""Files and folders at absolute paths, for a service's processes alone: what is bound where.

<state>/files/<digest>                 a file's content, as it was when its revision came to be
<state>/data/<service>/volumes/<name>  a service's named volume
<state>/data/_shared/<name>            one that is the app's
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Collection
from pathlib import Path

from shoal import files
from shoal.engines.local.keeper.mounts import nearest
from shoal.errors import EngineError
from shoal.model.app import App, Service
from shoal.model.surroundings import GivenFile, Volume, VolumeKind
from shoal.paths import StateFolder

Fill = Callable[[str], str]
"""Fills in the references of a text."""


class Given:
    """Makes them ready in the state folder."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._files = state.files

    def prepare(self, app: App, service: Service, fill: Fill) -> dict[str, object] | None:
        """What the keeper is to put where (`files` of its `namespace`); None: nothing. EngineError: not here."""
        if not service.files and not service.volumes:
            return None
        self.check(app, service)
        files = [[str(self._file(file, fill)), file.target, True] for file in service.files]
        volumes = [[str(self._folder(service, one)), one.target, one.read_only] for one in service.volumes]
        return {"place": str(self._make(self._files / "place")), "mounts": [*files, *volumes]}

    def check(self, app: App, service: Service) -> None:
        """EngineError: something cannot be put where the service wants it."""
        for target in [*(file.target for file in service.files), *(volume.target for volume in service.volumes)]:
            self._check(app, service, target)

    def drop_unused(self, used: Collection[str]) -> None:
        """Removes contents that no process has bound; `used`: the paths of the others."""
        for path in self._files.glob("*.file"):
            if str(path) not in used:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _file(self, file: GivenFile, fill: Fill) -> Path:
        """Another content is another file, so that what a replica has bound never changes."""
        data = base64.b64decode(file.content) if file.encoded else fill(file.content).encode("utf-8", "surrogateescape")
        mode = 0o555 if file.executable else 0o444  # a service that gives up its rights must still be able to read it
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        path = self._files / f"{digest}{'-x' if file.executable else ''}.file"
        if path.exists():
            return path
        self._make(self._files)
        try:
            files.write(path, data, mode=mode)
        except OSError as error:
            raise EngineError(f"{path} cannot be written: {error.strerror}") from error
        return path

    def _folder(self, service: Service, volume: Volume) -> Path:
        match volume.kind:
            case VolumeKind.OWN:
                return self._make(self._state.data / service.name / "volumes" / volume.source)
            case VolumeKind.SHARED:
                return self._make(self._state.data / "_shared" / volume.source)
            case VolumeKind.FOLDER:
                if not Path(volume.source).exists():
                    raise EngineError(
                        f"volume {str(volume)!r}: {volume.source} does not exist any more",
                        way_out=f"make it, or correct 'volumes' of {service.name}",
                    )
                return Path(volume.source)

    def _make(self, folder: Path) -> Path:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"{folder} cannot be made: {error.strerror}") from error
        return folder

    def _check(self, app: App, service: Service, target: str) -> None:
        """Whether something can be put there, and nothing is hidden by it that a replica needs."""
        for needed in (service.folder, self._state.root, self._state.run):
            if Path(needed).is_relative_to(target):
                raise EngineError(
                    f"service {service.name!r}: {target} would hide {needed}, which its replicas need",
                    way_out="choose another path, or move the app out of there",
                )
        around = [volume.target for volume in service.volumes if target.startswith(volume.target.rstrip("/") + "/")]
        if os.path.lexists(target) or around:
            return
        place = nearest(target)
        if place != "/" and (why := _lively(Path(place), Path(app.folder))):
            raise EngineError(
                f"service {service.name!r}: {target} does not exist, and {place} is {why}, where nothing can be put "
                "for one service alone",
                way_out=f"make it: {_command(target, any(volume.target == target for volume in service.volumes))}",
            )


def _lively(place: Path, app_folder: Path) -> str:
    """Why a folder cannot be covered by a copy: what is written there must be seen by all. Empty: it can be."""
    status = place.stat()
    if status.st_mode & stat.S_ISVTX and status.st_mode & stat.S_IWOTH:
        return "everybody's"
    home = Path(os.environ.get("HOME", "/nonexistent"))
    if place.is_relative_to(app_folder) or place.is_relative_to(home) or 0 != status.st_uid == os.geteuid():
        return "your own"
    return ""


def _command(target: str, folder: bool) -> str:
    if folder:
        return f"mkdir -p {target}"
    return f"mkdir -p {os.path.dirname(target)} && touch {target}"  # noqa: PTH120 - as it is written
