"""`shoal install`: the app as a service of systemd."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from shoal.cli.options import file_option, shoal_command
from shoal.cli.output import emit, say
from shoal.cli.target import app_of
from shoal.cli.unit import Unit, text
from shoal.errors import ConflictError, EngineError, UnsupportedError, UsageError

SYSTEM = Path("/etc/systemd/system")


@shoal_command(
    "install",
    ("shoal install", "a unit of your own systemd, started when you log in"),
    ("shoal install --system --user www-data", "as root: a unit of the machine, started at boot"),
    ("shoal install --print", "show the unit, write nothing"),
)
@click.option("--system", is_flag=True, help="For the machine, run by --user; needs root. Default: for yourself.")
@click.option("--user", metavar="NAME", help="With --system: who runs the app. Default: who called sudo.")
@click.option("--now", is_flag=True, help="Enable and start it too.")
@click.option("--print", "show", is_flag=True, help="Print the unit, and write nothing.")
@file_option()
def command(system: bool, user: str | None, now: bool, show: bool, file: Path | None, as_json: bool) -> None:
    """Write a systemd unit that starts the app at boot and keeps it.

    The unit's own process only watches: when it is killed, or systemd restarts it, the app goes on. `systemctl stop`
    drains and stops the app, `systemctl reload` lets a newer Shoal take it over without a restart of any service.
    """
    if user is not None and not system:
        raise UsageError("--user is for --system", way_out="leave it out: the unit is your own")
    unit = unit_of(file, system, user)
    if show:
        emit({"unit": unit.name, "text": text(unit)}) if as_json else click.echo(text(unit), nl=False)
        return
    path = unit_folder(system) / unit.name
    _write(path, text(unit))
    steps = [["daemon-reload"], ["enable", "--now", unit.name]]
    if now:
        for step in steps:
            run_systemctl(system, *step)
    if as_json:
        emit({"unit": unit.name, "path": str(path), "started": now})
        return
    say(f"{path} is written" + (", and started" if now else ""))
    control = _control(system)
    if not now:
        say("start it now and at every boot:", *(f"  {' '.join([*control, *step])}" for step in steps))
    if not system:
        say("it starts when you log in; at boot instead: loginctl enable-linger")
    say(f"  {' '.join(control)} status {unit.name}     journalctl {'' if system else '--user '}-u {unit.name}")


def unit_of(file: Path | None, system: bool, user: str | None) -> Unit:
    """The unit of the app that a command means."""
    from shoal.spec.find import app_file as file_in
    from shoal.spec.find import nearest_app_file

    app = app_of(None, None, file)
    path = nearest_app_file(Path.cwd()) if file is None else file_in(file)
    runs = user or os.environ.get("SUDO_USER") or getpass.getuser()
    return Unit(
        app=app.name,
        file=str(path.absolute()),
        folder=app.folder,
        python=sys.executable,
        system=system,
        user=runs,
        path=os.environ.get("PATH", os.defpath),
    )


def unit_folder(system: bool) -> Path:
    """Where units of this kind are written. Raises UsageError and UnsupportedError when we cannot."""
    if not sys.platform.startswith("linux"):
        raise UnsupportedError("units are systemd's, which is Linux's", way_out="run it with launchd: shoal up")
    if system:
        if os.geteuid() != 0:
            raise UsageError("a unit of the machine is root's to write", way_out="sudo shoal install --system")
        return SYSTEM
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path("~/.config").expanduser()) / "systemd" / "user"


def _write(path: Path, content: str) -> None:
    """Whole, or not at all. Raises ConflictError for a unit of that name that is not ours, EngineError."""
    try:
        if path.exists() and "shoal install" not in path.read_text():
            raise ConflictError(f"{path} is there and not of Shoal's making", way_out="move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as temporary:
            temporary.write(content)
        Path(temporary.name).chmod(0o644)
        Path(temporary.name).replace(path)
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}") from error


def _control(system: bool) -> list[str]:
    return ["systemctl"] if system else ["systemctl", "--user"]


def run_systemctl(system: bool, *arguments: str) -> None:
    """Raises UnsupportedError where there is no systemd, EngineError with its words."""
    argv = [*_control(system), *arguments]
    if shutil.which("systemctl") is None:
        raise UnsupportedError("there is no systemctl here", way_out="leave --now out, and start the unit yourself")
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise EngineError(f"`{' '.join(argv)}` failed: {done.stderr.strip() or done.returncode}")
