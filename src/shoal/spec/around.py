"""What stands around a service's processes, each value alone: `files`, `volumes`, `static`, `python`, `node`."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from shoal.spec.strict import Strict as _Strict
from shoal.spec.strict import wrong

VOLUME_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*"
_PYTHON = re.compile(r"3(?:\.[0-9]{1,2}){0,2}")
_NODE = re.compile(r"v?[0-9]{1,3}(?:\.[0-9]{1,4}){0,2}")


def absolute(value: object) -> str:
    """A path where something is put; raises PydanticCustomError."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise wrong("must be an absolute path", "it starts with /")
    if not value.isprintable() or ".." in value.split("/"):
        raise wrong("must be an absolute path, without '..' and control characters")
    path = posixpath.normpath(value).replace("//", "/")
    if path == "/" or path.split("/")[1] in ("proc", "sys", "dev"):
        raise wrong("nothing can be put there", "choose a path of the program's own")
    if path in ("/etc/hosts", "/etc/nsswitch.conf"):
        raise wrong("that file is Shoal's: in it the service finds the others by name", "leave it out")
    return path


def _source(value: object) -> object:
    """Text is a file's name."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise wrong("must be a file, relative to the app file's folder", "or give its text: {content: '...'}")
    return {"source": value}


def _files(value: object) -> object:
    if not isinstance(value, dict):
        raise wrong("must map absolute paths to files", "write it like {/etc/app.conf: conf/app.conf}")
    return {absolute(target): source for target, source in value.items()}


def volume_parts(text: str) -> tuple[str, str, str]:
    """Source, target, options of `data:/var/lib/app:ro`. No target: empty."""
    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    return source, target, options


def _volume(value: object) -> object:
    """One with a reference in it is looked at once that is filled in."""
    if not isinstance(value, str):
        raise wrong("must be text like data:/var/lib/app or ./folder:/srv/folder:ro")
    return value if "$" in value else check_volume(value)


def check_volume(value: str) -> str:
    """Gives it back; raises PydanticCustomError, with `message` and `way_out` in its context."""
    source, target, options = volume_parts(value)
    if not source or not target:
        raise wrong("has no target", "write it like data:/var/lib/app, or ./folder:/srv/folder")
    try:
        absolute(target)
    except ValueError as error:
        raise wrong(f"its target, {target}, {getattr(error, 'context', {}).get('message', '')}") from None
    if options not in ("", "ro", "rw"):
        raise wrong("ends with an option that is not known", "there are :ro and :rw")
    if "/" not in source and source not in (".", "..", "~") and not re.fullmatch(VOLUME_NAME, source):
        raise wrong("starts with what is neither a name nor a folder", "a folder of your own is written with ./ or /")
    return value


def _volumes(value: object) -> object:
    if not isinstance(value, list):
        raise wrong("must be a list", "write it like [data:/var/lib/app]")
    return value


def _shared(value: object) -> object:
    """A list of names; Compose's mapping of names to nothing is one too."""
    names = list(value) if isinstance(value, dict | list) else [value]
    if isinstance(value, dict) and any(options for options in value.values()):
        raise wrong("a shared volume has no options", f"write a list: [{', '.join(map(str, names))}]")
    if not all(isinstance(name, str) and re.fullmatch(VOLUME_NAME, name) for name in names):
        raise wrong("must be a list of names", "letters, digits, '_', '.' and '-': [uploads]")
    return names


def _static(value: object) -> object:
    """A folder's name, or a mapping: always a mapping afterwards."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not value:
        raise wrong("must be a folder of files", "write it like dist, or {folder: dist, spa: true}")
    return {"folder": value}


def _python(value: object) -> object:
    if isinstance(value, float):
        raise wrong("must be text: as a number, 3.10 is 3.1", "put it in quotes, like '3.12'")
    if not _PYTHON.fullmatch(str(value)) or isinstance(value, bool):
        raise wrong("must be a version of Python 3", "write it like '3.12', or '3.12.1'")
    return str(value)


def _node(value: object) -> object:
    if isinstance(value, float):
        raise wrong("must be text: as a number, 20.10 is 20.1", "put it in quotes, like '20.1'")
    if not _NODE.fullmatch(str(value)) or isinstance(value, bool):
        raise wrong("must be a version of Node", "write it like 20, or '20.11'")
    return str(value).removeprefix("v")


class GivenFileFile(_Strict):
    """A file that a service finds: either `source` or `content`."""

    model_config = ConfigDict(
        title="File", json_schema_extra={"oneOf": [{"required": ["source"]}, {"required": ["content"]}]}
    )

    source: str | None = Field(
        default=None,
        description="A file, relative to the app file's folder, whose content is taken as it is.",
        examples=["conf/app.conf"],
    )
    content: str | None = Field(
        default=None,
        description="The text itself, in which references are filled in as in `env`.",
        examples=["listen ${port}"],
    )


class StaticFile(_Strict):
    """A folder of files, served over HTTP."""

    model_config = ConfigDict(title="Static", json_schema_extra={"required": ["folder"]})

    folder: str | None = Field(
        default=None, description="Relative to `cwd` of the service. Required.", examples=["dist"]
    )
    spa: bool = Field(
        default=False,
        description="Whether a path that is no file is answered with `index.html`, as single-page apps need it. What "
        "looks like a file (`/logo.png`) and is none stays a 404.",
    )


OneFile = Annotated[GivenFileFile, BeforeValidator(_source, json_schema_input_type=str | GivenFileFile)]
GivenFiles = Annotated[dict[str, OneFile], BeforeValidator(_files)]
Volumes = Annotated[list[Annotated[str, BeforeValidator(_volume)]], BeforeValidator(_volumes)]
SharedVolumes = Annotated[
    list[str], BeforeValidator(_shared, json_schema_input_type=list[str] | dict[str, dict[str, Any] | None])
]
Static = Annotated[StaticFile, BeforeValidator(_static, json_schema_input_type=str | StaticFile)]
_VERSION: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
PythonVersion = Annotated[str, BeforeValidator(_python), Field(json_schema_extra=_VERSION)]
NodeVersion = Annotated[str, BeforeValidator(_node), Field(json_schema_extra=_VERSION)]
