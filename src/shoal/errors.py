"""The error tree: what went wrong, whose it is, and the way out.

Every error that a user can meet is a `ShoalError` with a stable `code`. The API sends it as problem details, the
command line prints it as two lines.
"""

from __future__ import annotations

from typing import ClassVar


class ShoalError(Exception):
    """An error with a message for people, a stable code for machines, and the way out.

    `message` says what and whose ("service 'web' wants port 8080, which pid 412 (nginx) holds");
    `way_out` what to do now ("free it, or remove 'port'"); `detail` holds lines worth reading (a log's tail).
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    """HTTP status of the problem details that carry this error."""
    exit_code: ClassVar[int] = 1
    """Exit status of a command that ends with this error."""

    def __init__(self, message: str, *, way_out: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.way_out = way_out
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message}; {self.way_out}" if self.way_out else self.message


class UsageError(ShoalError):
    """The request itself is wrong: an unknown service, a bad number."""

    code = "usage"
    status = 400
    exit_code = 2


class NotFoundError(UsageError):
    code = "not-found"
    status = 404


class ConflictError(ShoalError):
    """The request is fine, the world is not: a port is taken, another daemon holds the state."""

    code = "conflict"
    status = 409
    exit_code = 3


class MigratedError(ConflictError):
    """The schema has changed since; a person has to say that the older code can live with it."""

    code = "migrated"


class NotRunningError(ShoalError):
    """There is no plane to talk to."""

    code = "not-running"
    status = 503
    exit_code = 4


class NotReadyError(ShoalError):
    """Something was started and did not get ready."""

    code = "not-ready"
    status = 503
    exit_code = 5


class RolledBackError(NotReadyError):
    """A change was rolled out, failed, and was taken back: all is as before."""

    code = "rolled-back"


class EngineError(ShoalError):
    """An engine (a process, Envoy, an environment) could not do what it was asked."""

    code = "engine"
    status = 502


class StoreError(ShoalError):
    """The state could not be read or written."""

    code = "store"
    status = 507


class UnsupportedError(ShoalError):
    """This machine cannot do it (no Linux namespaces, no Envoy for this platform)."""

    code = "unsupported"
    status = 501
    exit_code = 6
