"""The systemd unit of an app, as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

START_S_MAX = 600
"""The first start makes environments and builds."""
STOP_S_MAX = 120
"""Longer than `shoal down` takes at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What `shoal install` was told."""

    app: str
    file: str
    """Absolute: the app file."""
    folder: str
    python: str
    """Absolute: the interpreter that Shoal is installed in."""
    system: bool
    """For the machine; else for one user's manager."""
    user: str = ""
    """Who runs a system unit."""
    path: str = "/usr/local/bin:/usr/bin:/bin"

    @property
    def name(self) -> str:
        return f"shoal-{self.app}.service"


def text(unit: Unit) -> str:
    """The whole file.

    `KillMode=process`: the unit's own process only watches. When it ends, is killed or restarted by the manager, the
    app goes on, and the next one finds it. `ExecStop` is what takes the app down, and `ExecReload` an upgrade.
    """
    shoal = [unit.python, "-m", "shoal"]
    at = ["--file", unit.file]
    lines = [
        "# Written by `shoal install`; written again by it, and removed by `shoal uninstall`.",
        "[Unit]",
        f"Description=Shoal app {unit.app}",
        "Documentation=https://github.com/shoal-dev/shoal/blob/main/docs/howto/server.md",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={_command([*shoal, 'supervise', *at])}",
        f"ExecReload={_command([*shoal, 'upgrade', *at])}",
        f"ExecStop={_command([*shoal, 'down', *at])}",
        "KillMode=process",
        "Restart=on-failure",
        "RestartSec=1",
        f"TimeoutStartSec={START_S_MAX}",
        f"TimeoutStopSec={STOP_S_MAX}",
        f"WorkingDirectory={_value(unit.folder)}",
        f"Environment={_quoted('PATH=' + unit.path)}",
        "LimitNOFILE=65536",
    ]
    if unit.system:
        # The sockets' folder; kept while the unit's own process is restarted, for what runs listens there.
        lines += [
            f"User={unit.user}",
            f"RuntimeDirectory=shoal-{unit.app}",
            "RuntimeDirectoryMode=0700",
            "RuntimeDirectoryPreserve=restart",
            f"Environment=XDG_RUNTIME_DIR=/run/shoal-{unit.app}",
        ]
    lines += ["", "[Install]", f"WantedBy={'multi-user.target' if unit.system else 'default.target'}", ""]
    return "\n".join(lines)


def _command(argv: Sequence[str]) -> str:
    return " ".join(_quoted(word) for word in argv)


def _quoted(word: str) -> str:
    """A word of a command line or an assignment, by systemd.syntax(7)."""
    plain = _value(word).replace("$", "$$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", plain):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _value(text: str) -> str:
    """`%` begins a specifier everywhere in a unit."""
    return text.replace("%", "%%")
