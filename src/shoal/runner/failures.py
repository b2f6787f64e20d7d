"""Why a replica cannot serve: one line for people, one exit status for the engine."""

from __future__ import annotations

EXIT_IMPORT = 70
"""The target could not be imported: its module raised, or has no such attribute, or took too long."""
EXIT_NOT_AN_APP = 71
"""The target is no ASGI or WSGI application."""
EXIT_STARTUP = 72
"""The application refused to start (its lifespan failed)."""
EXIT_SERVER = 73
"""The server itself could not start: no granian, no socket."""

EXIT_CODES = (EXIT_IMPORT, EXIT_NOT_AN_APP, EXIT_STARTUP, EXIT_SERVER)


class CannotServeError(Exception):
    """Ends the runner. `message` follows "shoal: service 'web' "; `trace` is printed before it."""

    def __init__(self, exit_code: int, message: str, *, trace: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.trace = trace
