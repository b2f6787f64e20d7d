"""`build:` of a service: what is run once in each revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from shoal.spec.document import Loc
    from shoal.spec.review import Review
    from shoal.spec.schema import ServiceFile

OFF = "off"


def _build(value: object) -> object:
    if value is False:
        return OFF
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
        return value
    context = {
        "message": "must be a command line, a list of a program and its arguments, or off",
        "way_out": "several steps are one command line: npm ci && npm run build",
    }
    raise PydanticCustomError("shoal", "{message}", context)


Build = Annotated[str | list[str], BeforeValidator(_build)]


def built(review: Review, loc: Loc, service: ServiceFile) -> tuple[str, ...] | None:
    """`Service.build`."""
    if service.build is None:
        return None
    if service.external is not None:
        review.at_key((*loc, "build"), "what is external is not built here", "remove it")
    if isinstance(service.build, list):
        return tuple(service.build)
    return () if service.build == OFF else ("/bin/sh", "-c", service.build)
