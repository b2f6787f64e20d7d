"""`secrets:` of an app and of its services and jobs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from shoal.model import secrets
from shoal.spec.strict import Strict, wrong

GENERATE_LEAST, GENERATE_MOST = 16, 512


def _name(value: object) -> str:
    if not isinstance(value, str) or not secrets.is_name(value):
        hint = value.upper().replace("-", "_") if isinstance(value, str) else ""
        way_out = f"write {hint}" if secrets.is_name(hint) else ""
        raise wrong("a secret's name is made of capitals, digits and '_'", way_out)
    return value


def _bytes(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool) or not GENERATE_LEAST <= value <= GENERATE_MOST:
        raise wrong(f"must be a number of bytes from {GENERATE_LEAST} to {GENERATE_MOST}", "32 is plenty")
    return value


def _mapping(value: object) -> object:
    if isinstance(value, list):
        return {_name(name): {} for name in value}
    if not isinstance(value, dict):
        raise wrong("must be a list of names, or a mapping", "write [NAME], or {NAME: {generate: 32}}")
    return {_name(name): inner for name, inner in value.items()}


class SecretFile(Strict):
    """A secret of the app."""

    model_config = ConfigDict(title="Secret")

    generate: Annotated[int, BeforeValidator(_bytes)] | None = Field(
        default=None,
        description="So many bytes of chance, as text for URLs, when it is not set at the first start. Default: "
        "somebody sets it (`shoal secret set NAME`).",
        examples=[32],
    )


class GivenSecret(Strict):
    """How a service finds a secret."""

    model_config = ConfigDict(title="Secret of a service")

    env: str | None = Field(default=None, description="In this variable. Default: one of its own name.")
    file: bool = Field(
        default=False, description="In a file (0600), whose path is in the variable `NAME_FILE`, or in that of `env`."
    )


Secrets = Annotated[
    dict[str, SecretFile], BeforeValidator(_mapping, json_schema_input_type=list[str] | dict[str, SecretFile])
]
GivenSecrets = Annotated[
    dict[str, GivenSecret], BeforeValidator(_mapping, json_schema_input_type=list[str] | dict[str, GivenSecret])
]


def variables(given: dict[str, GivenSecret], written: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """`written`, with those that are given as variables; what the user wrote himself wins."""
    found = {one.env or name: secrets.reference(name) for name, one in given.items() if not one.file}
    return tuple((found | dict(written)).items())


def files(given: dict[str, GivenSecret]) -> tuple[tuple[str, str], ...]:
    return tuple((name, one.env or f"{name}_FILE") for name, one in given.items() if one.file)
