"""The compose files of tests/data/compose, what importing them gives, and the table of it in the how-to.

What is carried over grows with the app file's schema. After a new key, look at what changed and write it anew:
`python -m tests.unit.import_cases`.
"""

from __future__ import annotations

import re
from pathlib import Path

from shoal.cli.import_ import lines
from shoal.spec.importing import Imported, find, import_file

ROOT = Path(__file__).parents[2]
CASES = sorted(path for path in (ROOT / "tests/data/compose").iterdir() if path.is_dir())
GOLDEN = ROOT / "tests/golden/import"
PAGE = ROOT / "docs/howto/import-compose.md"
HOST = "a-machine"


def imported(case: Path) -> Imported:
    return import_file(find(case), case, HOST, profiles=())


def golden(case: Path) -> str:
    """The app file, then the report."""
    result = imported(case)
    return (
        "\n".join([result.text, *lines(result), "", *(f"not needed: {text}" for text in result.unneeded)]).rstrip()
        + "\n"
    )


def table() -> str:
    rows = ["| compose file with | services | become | keys not carried over |\n|---|---|---|---|\n"]
    for case in CASES:
        result = imported(case)
        kinds: dict[str, int] = {}
        for row in result.rows:
            word = row.becomes if row.becomes in ("left out", "runs once") else re.split(r"[ ,]", row.becomes)[0]
            kinds[word] = kinds.get(word, 0) + 1
        keys = ("run", "command", "external", "static", "image")
        become = ", ".join(
            f"{number} `{word}`" if word in keys else f"{number} {word}" for word, number in kinds.items()
        )
        gone = dict.fromkeys(_key(item.where, [row.service for row in result.rows]) for item in result.lost)
        lost = ", ".join(f"`{key}`" for key in gone)
        rows.append(f"| {case.name[3:].replace('-', ' ')} | {len(result.rows)} | {become} | {lost or 'nothing'} |\n")
    return "".join(rows)


def _key(where: str, services: list[str]) -> str:
    """`web.deploy.resources` -> `deploy.resources`: of whichever service."""
    owner = next((name for name in sorted(services, key=len, reverse=True) if where.startswith(f"{name}.")), None)
    parts = (where if owner is None else where[len(owner) + 1 :]).split(".")
    return ".".join(parts[:2]) if parts[0] == "deploy" else parts[0] if owner is not None else where


def page() -> str:
    """The how-to with the table of today."""
    text = PAGE.read_text()
    return re.sub(r"(?<=<!-- table -->\n).*?(?=<!-- end -->)", lambda _: f"\n{table()}\n", text, flags=re.DOTALL)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for one in CASES:
        (GOLDEN / f"{one.name}.txt").write_text(golden(one))
    PAGE.write_text(page())
