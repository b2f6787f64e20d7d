"""Small apps for tests, in one line each."""

from __future__ import annotations

from collections.abc import Iterable

from shoal.model.app import App, Command, Service


def service(name: str, *, port: int | None = 3000, replicas: int = 1, **more: object) -> Service:
    """A service that runs `true`; `more` are other fields of `Service`."""
    fields: dict[str, object] = {"workload": Command(argv=("true",)), "folder": "/app"} | more
    return Service(name=name, port=port, replicas=replicas, **fields)  # type: ignore[arg-type]


def app(*services: Service | str, name: str = "test") -> App:
    """An app of these services; a name alone stands for a service on the next port from 3000."""
    made: Iterable[Service] = (
        service(s, port=3000 + index) if isinstance(s, str) else s for index, s in enumerate(services)
    )
    return App(name=name, services=tuple(made), folder="/app")
