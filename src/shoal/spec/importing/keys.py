"""Which keys the app file has: asked of the schema itself, so that an import carries over more as Shoal learns more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shoal.spec.load import load_text
from shoal.spec.problems import SpecError
from shoal.spec.schema import AppFile, ServiceFile


def accepts(key: str, value: Any) -> bool:
    """Whether a service may have this key with this value, as far as the value alone tells."""
    if key not in ServiceFile.model_fields:
        return False
    try:
        ServiceFile.model_validate({key: value})
    except ValidationError:
        return False
    return True


def app_accepts(key: str, value: Any) -> bool:
    """The same of a key of the whole file."""
    if key not in AppFile.model_fields:
        return False
    try:
        AppFile.model_validate({key: value})
    except ValidationError:
        return False
    return True


def first_accepted(key: str, *values: Any) -> Any | None:
    """The first of several ways to write a thing that the schema takes; None when it takes none."""
    return next((value for value in values if accepts(key, value)), None)


def valid(service: dict[str, Any], folder: Path) -> bool:
    """Whether these keys make a whole service."""
    text = json.dumps({"services": {"probe": service}})
    try:
        load_text(text.encode(), "shoal.yaml", folder, {}, "")
    except SpecError:
        return False
    return True
