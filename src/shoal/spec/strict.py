"""What every key of the app file is checked with: nothing is converted, nothing unknown is passed over."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def wrong(message: str, way_out: str = "") -> PydanticCustomError:
    """An error in our own words; `spec.review` takes it apart again."""
    return PydanticCustomError("shoal", "{message}", {"message": message, "way_out": way_out})
