"""`external`: something that Shoal does not run, and how it is spoken to."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from shoal.model.app import External
from shoal.spec.strict import Strict, wrong

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def _address(value: object) -> object:
    """`host:port`, `[::1]:port`."""
    text = value if isinstance(value, str) else ""
    host, _, port = text.rpartition(":")
    if "://" in text:
        raise wrong("is a URL, and host:port is needed", f"write {text.partition('://')[2].rstrip('/') or 'host:port'}")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in bare and bare == host) or not _HOST.fullmatch(bare):
        raise wrong("must be host:port", "such as db.example.com:5432, 10.0.0.7:5432 or '[2001:db8::7]:5432'")
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise wrong("must be host:port, with a port from 1 to 65535")
    return value


def _name(value: object) -> object:
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise wrong("must be a host name, such as api.example.com")
    return value


def _file(value: object) -> object:
    if not isinstance(value, str) or not value or "\0" in value:
        raise wrong("must be a file, absolute or relative to the app file's folder")
    return value


def _flag(value: object) -> object:
    if not isinstance(value, bool):
        raise wrong("must be true or false")
    return value


def _mapping(value: object) -> object:
    return value if isinstance(value, dict) else {"address": _address(value)}


class ExternalFile(Strict):
    """Something that Shoal does not run."""

    model_config = ConfigDict(title="External", json_schema_extra={"required": ["address"]})

    address: Annotated[str, BeforeValidator(_address)] | None = Field(
        default=None, description="`host:port`. Required.", examples=["api.example.com:443"]
    )
    tls: Annotated[bool, BeforeValidator(_flag)] = Field(
        default=False,
        description="Whether it is spoken to over TLS. The others call it without; its certificate must be for `sni`, "
        "and by an authority of `ca`.",
    )
    sni: Annotated[str, BeforeValidator(_name)] | None = Field(
        default=None, description="With `tls`, the name that it is asked for. Default: the host of `address`."
    )
    ca: Annotated[str, BeforeValidator(_file)] | None = Field(
        default=None,
        description="With `tls`, a PEM file of the authorities that are believed, relative to the app file's folder. "
        "Default: the machine's.",
        examples=["certs/internal-ca.pem"],
    )


Outside = Annotated[ExternalFile, BeforeValidator(_mapping, json_schema_input_type=str | ExternalFile)]


def address_of(written: ExternalFile) -> External | None:
    """None: it has none, which `external` tells."""
    if written.address is None:
        return None
    host, _, port = written.address.rpartition(":")
    return External(host=host.removeprefix("[").removesuffix("]"), port=int(port))
