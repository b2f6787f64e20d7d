"""Imports `module:attribute` and says in words why it cannot."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType

from .failures import EXIT_IMPORT, CannotServeError

Say = Callable[[str], None]


def load(target: str, *, folder: str, warn_after_s: float, give_up_after_s: float, say: Say) -> object:
    """The object that `module:attribute` names; `attribute` may have dots.

    `folder` is already on the path. An import that takes longer than `warn_after_s` is reported with the line it is
    at; after `give_up_after_s` the process ends with EXIT_IMPORT. Raises CannotServeError.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise CannotServeError(
            EXIT_IMPORT, f"could not import {target!r}: write it as module:attribute, for example hello:app"
        )
    with _Deadline(target, folder, warn_after_s, give_up_after_s, say):
        module = _import(module_name, target, folder)
        return _attribute(module, module_name, attribute, target)


def _import(module_name: str, target: str, folder: str) -> object:
    try:
        return importlib.import_module(module_name)
    except BaseException as error:
        trace = "".join(traceback.format_exception(type(error), error, _from_the_module(error.__traceback__)))
        if isinstance(error, ModuleNotFoundError) and error.name and _is_part_of(error.name, module_name):
            # The target itself is missing, nothing that it imports.
            raise CannotServeError(EXIT_IMPORT, f"could not import {target}: {_missing(error.name, folder)}") from None
        what = f"{type(error).__name__}: {_first_line(error)}"
        if isinstance(error, SystemExit):
            what = f"the module called sys.exit({error.code!r}) while it was imported"
        raise CannotServeError(
            EXIT_IMPORT, f"could not import {target}: {what}{_place(error, folder)}", trace=trace
        ) from None


def _attribute(module: object, module_name: str, attribute: str, target: str) -> object:
    found = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            names = [known for known in vars(module) if not known.startswith("_")]
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {module_name}:{close[0]}?" if close else f"it has {_some(names)}"
            raise CannotServeError(
                EXIT_IMPORT, f"could not import {target}: {module_name} has no {name!r}; {hint}"
            ) from None
    return found


class _Deadline:
    """Speaks up when an import does not come back, and ends the process when it never does."""

    def __init__(self, target: str, folder: str, warn_after_s: float, give_up_after_s: float, say: Say) -> None:
        self._target, self._folder, self._say = target, folder, say
        self._warn_after_s, self._give_up_after_s = warn_after_s, give_up_after_s
        self._done = threading.Event()
        self._importer = threading.get_ident()

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, name="shoal-import-deadline", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        if self._done.wait(self._warn_after_s):
            return
        guard = "does the module call app.run() at import? guard it with if __name__ == '__main__'"
        self._say(f"is still importing {self._target} after {self._warn_after_s:g} s{self._where()}: {guard}")
        if self._done.wait(max(0.0, self._give_up_after_s - self._warn_after_s)):
            return
        stuck = f"still importing after {self._give_up_after_s:g} s{self._where()}"
        self._say(f"could not import {self._target}: {stuck}: {guard}")
        os._exit(EXIT_IMPORT)

    def _where(self) -> str:
        frame: FrameType | None = sys._current_frames().get(self._importer)
        while frame is not None:
            if _is_users(frame.f_code.co_filename, self._folder):
                return f" ({_short(frame.f_code.co_filename, self._folder)}, line {frame.f_lineno})"
            frame = frame.f_back
        return ""


def _from_the_module(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the runner's and importlib's own frames at its start."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        ours = file.startswith("<frozen importlib") or file == importlib.__file__
        if not ours and os.path.dirname(file) != os.path.dirname(__file__):
            break
        trace = trace.tb_next
    return trace


def _place(error: BaseException, folder: str) -> str:
    """` (…/shop/users.py, line 3)`: the last line of the service's own code that was at work."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({_short(error.filename, folder)}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if _is_users(frame.filename, folder):
            return f" ({_short(frame.filename, folder)}, line {frame.lineno})"
    return ""


def _is_users(file: str, folder: str) -> bool:
    inside = os.path.abspath(file).startswith(os.path.abspath(folder).rstrip(os.sep) + os.sep)
    # An environment may live in the service's folder.
    return inside and f"{os.sep}site-packages{os.sep}" not in file


def _short(file: str, folder: str) -> str:
    folder = os.path.abspath(folder).rstrip(os.sep) + os.sep
    file = os.path.abspath(file)
    return f"…/{file[len(folder) :]}" if file.startswith(folder) else file


def _is_part_of(missing: str, module_name: str) -> bool:
    return module_name == missing or module_name.startswith(missing + ".")


def _missing(name: str, folder: str) -> str:
    package, _, last = name.rpartition(".")
    place = os.path.join(folder, *package.split(".")) if package else folder
    try:
        here = sorted(
            entry.removesuffix(".py")
            for entry in os.listdir(place)
            if entry.endswith(".py") or os.path.isdir(os.path.join(place, entry))
        )
    except OSError:
        here = []
    close = difflib.get_close_matches(last, here, n=1)
    hint = f"; did you mean {f'{package}.{close[0]}' if package else close[0]}?" if close else ""
    return f"there is no module {name} in {folder}{hint}"


def _first_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return (text or "").strip().split("\n")[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "no public names"
