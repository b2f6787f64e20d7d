"""The variables of a service, from all the places where they may be written; and what `defaults` gives to each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shoal.spec import dotenv, references, traffic
from shoal.spec.document import Loc
from shoal.spec.edges import applies as traffic_applies
from shoal.spec.problems import Problem, printable, quoted
from shoal.spec.review import Review
from shoal.spec.schema import DefaultsFile, JobFile, ServiceFile

ENV_FILE_BYTES_MAX = 1_000_000


def env_files(part: DefaultsFile | ServiceFile | JobFile | None) -> tuple[str, ...]:
    """As a list, in the order in which they are read."""
    if part is None:
        return ()
    return (part.env_file,) if isinstance(part.env_file, str) else tuple(part.env_file)


def with_defaults(service: ServiceFile, defaults: DefaultsFile | None) -> ServiceFile:
    """The service, with the single values that only `defaults` has. Maps and lists of files are put together where
    they are read (`Variables`), because each entry is reported at the place where it stands."""
    if defaults is None:
        return service
    written = service.model_fields_set
    given = {key: getattr(defaults, key) for key in defaults.model_fields_set - {"env", "env_file"}}
    given = {
        key: value for key, value in given.items() if key not in traffic.KEYS or traffic_applies(key, value, service)
    }
    if service.external is not None:  # it is not ours; only how it is called is
        given = {key: value for key, value in given.items() if key in traffic.KEYS}
    elif service.port is None and not service.ports:
        for key in ("health", "startup", "liveness"):
            given.pop(key, None)  # a worker has nothing to be asked
    return service.model_copy(update={key: value for key, value in given.items() if key not in written})


class Variables:
    """Reads each file once, however many services name it, and tells each problem once."""

    def __init__(self, review: Review, folder: Path, environ: Mapping[str, str]) -> None:
        self._review, self._folder, self._environ = review, folder, environ
        self._files: dict[str, dict[str, str]] = {}
        self._told: set[tuple[Loc, str]] = set()

    def of(
        self, place: Loc, service: ServiceFile | JobFile, defaults: DefaultsFile | None, scope: references.Scope
    ) -> tuple[tuple[str, str], ...]:
        """Later wins: `env_file` and `env` of `defaults`, then `env_file` and `env` of the service itself."""
        found: dict[str, str] = {}
        parts: list[tuple[Loc, DefaultsFile | ServiceFile | JobFile]] = [(place, service)]
        if defaults is not None:
            parts.insert(0, (("defaults",), defaults))
        for loc, part in parts:
            for i, file in enumerate(env_files(part)):
                here = (*loc, "env_file") if isinstance(part.env_file, str) else (*loc, "env_file", i)
                found |= self._of_file(here, file)
            for key in part.env:
                found[key] = self._written((*loc, "env", key), key, scope)
        return tuple(found.items())

    def _written(self, loc: Loc, key: str, scope: references.Scope) -> str:
        if not key or "=" in key or "\0" in key:
            self._tell(loc, f"{quoted(key)} cannot be a variable's name", at_key=True)
        text, flaws = references.fill(self._review.document.written(loc), scope)
        for flaw in flaws:
            self._tell(loc, flaw.message, flaw.way_out, offset=flaw.offset)
        return text

    def _of_file(self, loc: Loc, name: str) -> dict[str, str]:
        path = str(self._folder / name)
        if path not in self._files:
            self._files[path] = {}
            try:
                with Path(path).open("rb") as stream:
                    data = stream.read(ENV_FILE_BYTES_MAX + 1)
                text = data.decode()
            except OSError as error:
                self._tell(loc, f"{quoted(path, limit=200)} cannot be read: {error.strerror}", _RELATIVE)
            except UnicodeDecodeError:
                self._tell(loc, f"{quoted(path, limit=200)} is not UTF-8 text")
            else:
                if len(data) > ENV_FILE_BYTES_MAX or "\0" in text:
                    self._tell(loc, f"{quoted(path, limit=200)} is no file of variables", "write NAME=value lines")
                else:
                    self._files[path] = self._parsed(name, text)
        return self._files[path]

    def _parsed(self, name: str, text: str) -> dict[str, str]:
        found, faults = dotenv.parse(text, self._environ)
        for key in [key for key, value in found.items() if references.is_kept(value)]:
            faults.append(
                dotenv.Fault(1, 1, f"{key}: a literal $PORT, ${{port}} or ${{service.part}} cannot be written")
            )
        for fault in faults:
            # Without the source line: it may hold a password, and problems end up in logs.
            problem = Problem(
                file=printable(name),
                line=fault.line,
                column=fault.column,
                path="",
                message=printable(fault.message),
                way_out=fault.way_out,
            )
            self._review.problems.append(problem)
        return found

    def _tell(
        self, loc: Loc, message: str, way_out: str = "", *, offset: int | None = None, at_key: bool = False
    ) -> None:
        """Once: what stands in `defaults` is looked at for every service."""
        if (loc, message) in self._told:
            return
        self._told.add((loc, message))
        if at_key:
            self._review.at_key(loc, message, way_out)
        else:
            self._review.at_value(loc, message, way_out, offset=offset)


_RELATIVE = "it is relative to the app file"
