"""`shoal secret`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shoal.cli.options import file_option, shoal_command
from shoal.cli.output import age, emit_line, say, table
from shoal.errors import ConflictError, NotFoundError, NotRunningError, ShoalError, UsageError
from shoal.model import secrets
from shoal.paths import StateFolder

if TYPE_CHECKING:
    from shoal.model.app import App
    from shoal.store.vault import Vault

COLUMNS = ("NAME", "SET", "USED BY")


@shoal_command(
    "secret",
    ("shoal secret set DB_PASSWORD", "asks for the value; or give it on standard input: ... set DB_PASSWORD - < file"),
    ("shoal secret list", "names and users, never values"),
    ("shoal secret rotate JWT_SEED", "a new value: a generated one, or as `set`; its users restart, one by one"),
    ("shoal secret rm OLD_TOKEN", "unless a service uses it"),
)
@click.argument("what", type=click.Choice(["set", "list", "rm", "rotate"]))
@click.argument("name", required=False)
@click.argument("source", required=False, type=click.Choice(["-"]))
@click.option("--from-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Read its value there.")
@click.option("--no-restart", is_flag=True, help="Leave its users as they are: they see it at their next start.")
@click.option("--force", is_flag=True, help="Remove it though a service uses it.")
@file_option("--file")
def command(
    what: str,
    name: str | None,
    source: str | None,
    from_file: Path | None,
    no_restart: bool,
    force: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Keep secrets of the app: set, list, rm and rotate. `${secret.NAME}` in the app file names one.

    Values are encrypted, with a key outside the state folder, and are never taken from the command line.
    """
    from shoal.cli.target import app_of, folder_of
    from shoal.store.vault import Vault

    vault = Vault(StateFolder.beside(folder_of(None, file)))
    app = app_of(None, None, file)
    if what == "list":
        _list(vault, app, as_json=as_json)
        return
    if name is None or not secrets.is_name(name):
        raise UsageError("name the secret: capitals, digits and '_'", way_out=f"shoal secret {what} DB_PASSWORD")
    there = {one.name for one in vault.kept()}
    if what == "rm":
        used = secrets.users(app, name)
        if used and not force:
            raise ConflictError(f"{', '.join(used)} use {name}", way_out="take it out of the app file, or --force")
        if not vault.remove(name):
            raise NotFoundError(f"there is no secret {name}", way_out="see shoal secret list")
        say(f"{name} is removed")
        return
    if what == "rotate" and name not in there and name not in dict(app.secrets):
        raise NotFoundError(f"there is no secret {name}", way_out=f"set it: shoal secret set {name}")
    size = dict(app.secrets).get(name) if what == "rotate" else None
    value = _value(name, source, from_file, size)
    vault.set(name, value, time.time())
    restarted = [] if no_restart or name not in there else _restart(app, name, file)
    if as_json:
        emit_line({"name": name, "restarted": restarted})
        return
    say(f"{name} is {'set' if what == 'set' else 'rotated'}")
    if restarted:
        say(f"{', '.join(restarted)}: replicas are replaced one by one; shoal status --watch shows it")


def _list(vault: Vault, app: App, *, as_json: bool) -> None:
    kept = {one.name: one for one in vault.kept()}
    names = sorted({*kept, *dict(app.secrets), *(n for s in app.services for n in secrets.used_by(s))})
    if as_json:
        for name in names:
            one = kept.get(name)
            emit_line({"name": name, "set_at": one.set_at if one else None, "used_by": secrets.users(app, name)})
        return
    if not names:
        say("there are no secrets; set one: shoal secret set NAME")
        return
    now = time.time()
    rows = [
        (
            name,
            f"{age(now - kept[name].set_at)} ago" if name in kept else "not set",
            ", ".join(secrets.users(app, name)) or "-",
        )
        for name in names
    ]
    say(*table(COLUMNS, rows))


def _value(name: str, source: str | None, from_file: Path | None, size: int | None) -> str:
    from shoal.store.vault import SIZE_MAX

    if from_file is not None:
        data = from_file.read_bytes()
    elif source == "-" or (size is None and not sys.stdin.isatty()):
        data = sys.stdin.buffer.read(SIZE_MAX + 1)
    elif size is not None:
        import secrets as chance

        return chance.token_urlsafe(size)
    else:
        return str(click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True))
    try:
        text = data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        words = "encode it: base64 < file | shoal secret set NAME -"
        raise UsageError("the value is not UTF-8 text", way_out=words) from None
    if not text or "\0" in text:
        raise UsageError("the value is empty, or has a zero byte in it", way_out="give it on standard input")
    if len(data) > SIZE_MAX:
        raise UsageError(f"the value is larger than {SIZE_MAX >> 10} KiB", way_out="keep it in a file of its own")
    return text


def _restart(app: App, name: str, file: Path | None) -> list[str]:
    """Its users that run. Nothing where the app does not run."""
    from shoal.cli.options import connect

    try:
        client = connect(file)
        running = {one.name for one in client.status().services if one.replicas}
        users = [service for service in secrets.users(app, name) if service in running]
        for service in users:
            client.restart(service)
        return users
    except NotRunningError:
        return []
    except ShoalError as error:
        words = f"{name} is set, but its users did not restart: {error.message}"
        raise ConflictError(words, way_out=error.way_out) from error
