"""`shoal`: finds the command, loads its module alone, and turns every ending into words and an exit status.

| status | meaning |
|---|---|
| 0 | done; also when there was nothing to do, and when Ctrl-C ended `up` after all was stopped |
| 1 | it failed |
| 2 | the request is wrong: the command line, the app file, an unknown service |
| 3 | something else is in the way: a port is taken |
| 4 | nothing runs here |
| 5 | something was started and is not ready |
| 6 | this machine cannot do it |
| 130, 141 | interrupted; nobody reads the output any more |

Errors go to stderr in words. With `--json` they also go to stdout, as problem details (RFC 9457).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from shoal.cli.output import clean, emit, problem_details, show_error
from shoal.errors import ShoalError, UsageError

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("shoal.cli.up", "Start the app, or bring a running one to what its file says."),
    "deploy": ("shoal.cli.deploy", "Roll out what has changed, and wait for it."),
    "down": ("shoal.cli.down", "Stop the app and its control plane."),
    "ps": ("shoal.cli.ps", "List the replicas."),
    "status": ("shoal.cli.status", "Show how each service is."),
    "logs": ("shoal.cli.logs", "Show what a service printed."),
    "events": ("shoal.cli.events", "Show what happened."),
    "explain": ("shoal.cli.explain", "Tell why a service is as it is."),
    "scale": ("shoal.cli.scale", "Set how many replicas a service has."),
    "promote": ("shoal.cli.promote", "Take a service's canary to its next step."),
    "abort": ("shoal.cli.abort", "Take a service's canary back."),
    "restart": ("shoal.cli.restart", "Replace a service's replicas, one by one."),
    "revisions": ("shoal.cli.revisions", "List a service's revisions."),
    "secret": ("shoal.cli.secret", "Keep secrets of the app."),
    "migrate": ("shoal.cli.migrate", "Show the migrations that have run."),
    "db": ("shoal.cli.db", "Dump and restore a service's database, or open a shell in it."),
    "diff": ("shoal.cli.diff", "Tell what changed between two revisions of a service."),
    "rollback": ("shoal.cli.rollback", "Return a service to an older revision."),
    "upgrade": ("shoal.cli.upgrade", "Let this Shoal take over a running app."),
    "prove": ("shoal.cli.prove", "Disturb the running app under load, and tell what was lost."),
    "install": ("shoal.cli.install", "Write a systemd unit that keeps the app up."),
    "uninstall": ("shoal.cli.uninstall", "Remove that unit."),
    "supervise": ("shoal.cli.supervise", "Keep the app up for a service manager."),
    "jobs": ("shoal.cli.jobs", "List the jobs and their runs."),
    "run": ("shoal.cli.run", "Run a job now, and wait for its end."),
    "call": ("shoal.cli.call", "Send a request to a service, through the mesh."),
    "exec": ("shoal.cli.execute", "Run a command as if it were part of a service."),
    "init": ("shoal.cli.init", "Make a new app from a template."),
    "dev": ("shoal.cli.dev", "Run the app from the working tree; a saved file reloads its service."),
    "check": ("shoal.cli.check", "Check the app file."),
    "import": ("shoal.cli.import_", "Write an app file from a compose file or a Procfile."),
    "plan": ("shoal.cli.plan", "Tell what `up` would change."),
    "routes": ("shoal.cli.routes", "Show where everything is reached."),
    "graph": ("shoal.cli.graph", "Draw who calls whom."),
    "schema": ("shoal.cli.schema", "Print the JSON Schema of the app file."),
    "completion": ("shoal.cli.completion", "Print the completion script of a shell."),
    "doctor": ("shoal.cli.doctor", "See what this machine can do."),
    "version": ("shoal.cli.version", "Show the version."),
}
"""Name -> module (with `command` in it) and summary. The summaries stand here so that `--help` loads no module."""

INTERRUPTED, NO_READER = 130, 141


class Commands(click.Group):
    """The commands, each loaded when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean 'shoal {near[0]}'?" if near else "`shoal --help` lists them all"
            raise UsageError(f"there is no command '{clean(args[0])}'", way_out=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        examples = ["shoal up", "shoal up -d hello:app", "shoal logs web -f", "shoal COMMAND --help"]
        with formatter.section("Examples"):
            formatter.write_text("\b\n" + "\n".join(examples))


@click.group(
    name="shoal",
    cls=Commands,
    invoke_without_command=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def cli() -> None:
    """Many small services, moving as one: runs the app that shoal.yaml describes."""


def main() -> None:
    if "_SHOAL_COMPLETE" in os.environ:
        cli.main(prog_name="shoal")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit status. Never raises."""
    own = list(arguments)[: arguments.index("--")] if "--" in arguments else list(arguments)
    as_json = "--json" in own
    try:
        # Not `cli.main`, which has its own mind about interrupts and broken pipes.
        with cli.make_context("shoal", list(arguments)) as context:
            result = cli.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except ShoalError as error:
        return _fail(error, as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return UsageError.exit_code
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "shoal"
        words = error.format_message().rstrip(".")
        return _fail(UsageError(words[:1].lower() + words[1:], way_out=f"see {where} --help"), as_json)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return _no_reader()


def _fail(error: ShoalError, as_json: bool) -> int:
    try:
        show_error(error)
        if as_json:
            emit(problem_details(error))
            sys.stdout.flush()
    except BrokenPipeError:
        return _no_reader()
    return error.exit_code


def _no_reader() -> int:
    """`shoal logs web | head`: what is still buffered goes nowhere, without a word at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return NO_READER
