"""What the commands share: their options, their help with examples, and the way to the plane they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shoal.cli.names import ServiceName
from shoal.errors import NotRunningError
from shoal.paths import StateFolder
from shoal.spec.find import app_folder, nearest_app_folder

if TYPE_CHECKING:
    from shoal.client.http import Client

RESTART_S_MAX = 5.0

F = TypeVar("F", bound=Callable[..., Any])


class ShoalCommand(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        """Command line and what it does."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            formatter.write_dl(list(self.examples))


def shoal_command(
    name: str, *examples: tuple[str, str], **settings: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """`@shoal_command("scale", ("shoal scale web 3", "three replicas"))`; every command has `--json`."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        made = click.command(name, cls=ShoalCommand, examples=examples, **settings)(function)
        for parameter in made.params:
            if isinstance(parameter, click.Argument) and parameter.name == "service":
                parameter.type = ServiceName()
        made.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, for machines."))
        return made

    return decorate


def file_option(*names: str) -> Callable[[F], F]:
    """`-f`, unless the command has another use for it."""
    return click.option(
        *(names or ("-f", "--file")),
        "file",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="The app file, or its folder. Default: the nearest shoal.yaml, upwards from here.",
    )


def state_folder(file: Path | None) -> StateFolder:
    """The state of the app that a command means. Raises UsageError when there is no app there."""
    return StateFolder.beside(nearest_app_folder(Path.cwd()) if file is None else app_folder(file))


def connect(file: Path | None) -> Client:
    """A client of the running plane. Raises NotRunningError, UsageError."""
    import socket

    from shoal.client.http import Client

    state = state_folder(file)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(state.api_socket))
        except OSError:
            _wait_for_restart(state)
    return Client(state.api_socket)


def _wait_for_restart(state: StateFolder) -> None:
    """A daemon that died comes back within a second or two, as long as its keeper runs. Raises NotRunningError."""
    from shoal.client.plane import answers_soon, has_leftovers

    if answers_soon(state, timeout_s=RESTART_S_MAX):
        return
    where = state.root.parent
    if has_leftovers(state):
        raise NotRunningError(
            f"the control plane of {where} is gone; what it ran may still run",
            way_out="shoal up takes it up again, shoal down ends it",
        )
    raise NotRunningError(f"nothing runs in {where}", way_out="start it: shoal up")
