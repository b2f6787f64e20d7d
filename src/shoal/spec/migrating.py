"""`migrate:` how a service's schema changes, each value alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from shoal.model.migration import DEADLINE_S, Migration
from shoal.spec.pace import Pause, pause_s
from shoal.spec.strict import Strict, wrong


def _command(value: object) -> object:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(isinstance(part, str) and part for part in value):
        return value
    raise wrong("must be a command: text, or a list of the program and its arguments", "such as alembic upgrade head")


class MigrationFile(Strict):
    """A change of the schema, with its limits."""

    model_config = ConfigDict(title="Migration", json_schema_extra={"required": ["command"]})

    command: Annotated[str | list[str], BeforeValidator(_command)] | None = Field(
        default=None, description="As `migrate` alone. Required.", examples=["alembic upgrade head"]
    )
    timeout: Pause | None = Field(
        default=None,
        description="How long it may take; then it is ended, and has failed. Default: `5m`.",
        examples=["30m"],
    )
    reversible: Annotated[str | list[str], BeforeValidator(_command)] | None = Field(
        default=None,
        description="What undoes it. `shoal rollback` names it when it asks. Default: nothing does.",
        examples=["alembic downgrade -1"],
    )


def _mapping(value: object) -> object:
    return value if isinstance(value, dict) else {"command": _command(value)}


Migrate = Annotated[MigrationFile, BeforeValidator(_mapping, json_schema_input_type=str | list[str] | MigrationFile)]


def migration(written: MigrationFile | None) -> Migration | None:
    """None: there is none, or its command is missing, which the caller tells."""
    if written is None or written.command is None:
        return None
    undo = _argv(written.reversible) if written.reversible is not None else ()
    return Migration(
        command=_argv(written.command),
        timeout_s=(pause_s(written.timeout) if written.timeout else None) or DEADLINE_S,
        reversible=undo,
    )


def _argv(command: str | list[str]) -> tuple[str, ...]:
    return ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
