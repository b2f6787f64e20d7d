"""Private hosts files: what is in them, and whether this machine lets us have them."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ENTER = Path(__file__).parent / "keeper" / "enter.py"
"""Run as `python -I -S enter.py HOSTS NSSWITCH|- -- ARGV...`: becomes ARGV with these files over the machine's."""
DETECT_S_MAX = 10.0
BY_VARIABLES = "services find each other by variables such as PRODUCT_SERVICE_URL"
"""Ends a reason, where there is no other way out."""
MADE_BY_SHOAL = "# The services of this app, added by Shoal."


def hosts_text(original: str, names: Mapping[str, str]) -> str:
    """The machine's hosts file with these names (name -> address) in it, sorted by name.

    The machine's own lines stay as they are, but for mentions of the names: the first match in the file counts.
    """
    taken = {name.lower() for name in names}
    kept = [rest for line in _lines(original) if line != MADE_BY_SHOAL and (rest := _without(line, taken)) is not None]
    own = [f"{address}\t{name}" for name, address in sorted(names.items())]
    return "".join(f"{line}\n" for line in [*kept, MADE_BY_SHOAL, *own])


def _lines(text: str) -> list[str]:
    """Not `splitlines`: a form feed ends no line in these files."""
    return text.removesuffix("\n").split("\n") if text else []


def _without(line: str, names: set[str]) -> str | None:
    """A line of a hosts file without these names. None: nothing is left of it."""
    content, mark, comment = line.partition("#")
    words = content.split()
    kept = [word for word in words[1:] if word.lower() not in names]
    if len(kept) == len(words[1:]):
        return line
    if not kept:
        return None
    return "\t".join([words[0], " ".join(kept)]) + (f" {mark}{comment}" if mark else "")


def nsswitch_text(original: str) -> str:
    """The machine's nsswitch.conf, with `files` as the first to be asked for hosts; all else as it is."""
    lines = _lines(original)
    found = False
    for index, line in enumerate(lines):
        content = line.partition("#")[0]
        database, colon, sources = content.partition(":")
        if colon and database.strip() == "hosts":
            found = True
            # `files [NOTFOUND=return]`: what is said about it in brackets leaves with it.
            others = re.sub(r"(?<![\w-])files(?![\w-])(\s*\[[^]]*\])*", " ", sources).split()
            lines[index] = " ".join(["hosts:", "files", *others])
    if not found:
        lines.append("hosts: files dns")
    return "".join(f"{line}\n" for line in lines)


def detect(python: str = sys.executable) -> tuple[bool, str]:
    """Whether a process can have its own hosts file here, found by trying once in a throwaway child; and if not, why,
    with the way out. Blocks for some 30 ms, at most 10 s: call it in a thread."""
    if sys.platform != "linux":
        return (
            False,
            "private hosts files need Linux; services find each other by variables such as PRODUCT_SERVICE_URL",
        )
    probe = "127.77.0.1 shoal-detects-names\n"
    with tempfile.TemporaryDirectory(prefix="shoal-names-") as folder:
        hosts = Path(folder) / "hosts"
        hosts.write_text(probe)
        command = [python, "-I", "-S", str(ENTER), str(hosts), "-", "--", "cat", "/etc/hosts"]
        try:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=DETECT_S_MAX,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return False, f"the trial could not be made ({error}); {BY_VARIABLES}"
    if result.returncode == 0 and result.stdout == probe:
        return True, ""
    words = result.stderr.strip().removeprefix("shoal: ") or f"the trial ended with exit code {result.returncode}"
    return False, f"{words}; {_way_out(words)}"


def _way_out(words: str) -> str:
    """What would allow it. Only what is written on this machine decides the words, never whether we try."""
    if _reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor forbids it to users: 'sysctl kernel.apparmor_restrict_unprivileged_userns=0' (as root) allows it"
        )
    if _reads("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "this system forbids it to users: 'sysctl kernel.unprivileged_userns_clone=1' (as root) allows it"
    if _reads("/proc/sys/user/max_user_namespaces") == "0":
        return "this system allows no user namespaces: 'sysctl user.max_user_namespaces=10000' (as root) does"
    if "exist" in words:
        return "make /etc/hosts a file"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return f"a container allows it when started with '--cap-add SYS_ADMIN'; {BY_VARIABLES}"
    return BY_VARIABLES


def _reads(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
