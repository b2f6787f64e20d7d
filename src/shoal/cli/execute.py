"""`shoal exec`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import click

from shoal.cli.options import connect, file_option, shoal_command
from shoal.cli.output import emit, show_error
from shoal.errors import EngineError, NotFoundError, UsageError
from shoal.model.status import ExecContext

FROM_TERMINAL = ("TERM", "COLORTERM", "LINES", "COLUMNS", "NO_COLOR")
"""A service has no terminal; the command does."""
CANNOT_RUN, NO_SUCH_COMMAND = 126, 127


@shoal_command(
    "exec",
    ("shoal exec web -- sh", "a shell with the service's variables, folder and names"),
    ("shoal exec cart-service -- curl http://product-service:3001/products", "call another service as it would"),
    ("shoal exec web --json", "those variables, the folder and the hosts file, as JSON"),
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("service")
@click.argument("command_line", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED)
@file_option()
def command(service: str, command_line: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Run a command as if it were part of SERVICE: its environment, its folder, its names.

    The command takes Shoal's place: terminal, signals and exit status are its own. Shoal's
    options stand before the `--`.
    """
    argv = list(command_line)
    # Up to `--` they can only be ours, as with every other command.
    while argv and (argv[0] == "--json" or (argv[0] in ("-f", "--file") and "--" in argv[2:])):
        if argv[0] == "--json":
            argv, as_json = argv[1:], True
        else:
            argv, file = argv[2:], Path(argv[1])
    if argv[:1] == ["--"]:
        argv = argv[1:]
    if not argv and not as_json:
        raise UsageError("there is no command to run", way_out=f"add one: shoal exec {service} -- sh")
    context = connect(file).exec_context(service)
    if as_json:
        emit(context)
    else:
        become(context, argv)


def become(context: ExecContext, argv: list[str]) -> NoReturn:
    """Replaces this process. Ends with 126 or 127, as a shell does, when the command cannot be run or is not there."""
    from shoal.client.plane import entering
    from shoal.engines.local.confidential import read_once

    terminal = {name: os.environ[name] for name in FROM_TERMINAL if name in os.environ}
    env = {"PATH": os.defpath} | terminal | context.env | read_once(context.kept_back)
    try:
        os.chdir(context.folder)
    except OSError as error:
        raise EngineError(f"cannot go to {context.folder}: {error.strerror}") from None
    program = shutil.which(argv[0], path=env["PATH"])
    if program is None:
        show_error(NotFoundError(f"the service's PATH has no command '{argv[0]}'", way_out=f"PATH is {env['PATH']}"))
        raise click.exceptions.Exit(NO_SUCH_COMMAND)
    line = entering(context, argv)
    try:
        os.execve(program if line[0] == argv[0] else line[0], line, env)
    except OSError as error:
        show_error(EngineError(f"cannot run {program}: {error.strerror}"))
        raise click.exceptions.Exit(CANNOT_RUN) from None
