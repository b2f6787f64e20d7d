"""`make bench`: all benchmarks, or those named: `python -m bench hop up`; `--quick`: few rounds, to see them work.

Each is a module here with `run(quick) -> Result`. One that cannot run, because something is missing on this machine,
says why, and the others go on; the exit status is then 1. A number that misses its target is no failure.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import machine
from bench.result import Result, table, to_plain

BENCHMARKS = ("hop", "stack", "up", "change", "edges", "idle", "failover", "probes", "dev")
"""In this order."""
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
"""Between them is what the command writes."""
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str]) -> int:
    there = [name for name in BENCHMARKS if importlib.util.find_spec(f"bench.{name}") is not None]
    parser = argparse.ArgumentParser(prog="bench", description="Measures Shoal beside others, on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(there)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--no-install", action="store_true", help="as root too: leave Debian's packages alone")
    parser.add_argument("--publish", action="store_true", help=f"write the table into {PAGE.name}")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in there]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(there)}", file=sys.stderr)
        return 2
    # What is installed has its .pyc files; without them each start would compile Shoal anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not options.no_install:
        for words in machine.install_peers():
            print(f"peers: {words}", file=sys.stderr)
    results: list[Result] = []
    failed: dict[str, str] = {}
    for name in options.names or there:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            result = importlib.import_module(f"bench.{name}").run(options.quick)
        except Exception as error:  # one that cannot run must not take the others with it
            failed[name] = f"{type(error).__name__}: {error}"
            print(f"{name}: {failed[name]}", file=sys.stderr)
            continue
        keep(result)
        results.append(result)
    text = report(results, failed)
    print(f"\n{text}")
    if options.publish:
        publish(text)
    return 1 if failed else 0


def report(results: Sequence[Result], failed: Mapping[str, str]) -> str:
    """Markdown: on what it ran, the table, the notes, and what could not run."""
    lines = [f"{machine.summary()}", "", table(results), ""]
    lines += [f"- `{result.name}`: {note}" for result in results for note in result.notes]
    lines += [f"- `{name}` could not run: {' '.join(words.split())[:200]}" for name, words in failed.items()]
    return "\n".join(lines).rstrip() + "\n"


def publish(text: str, page: Path = PAGE) -> None:
    """Puts a report in the place of the last one. ValueError: the page has no place for it."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{page} has no {BEGIN} and {END}")
    temporary = page.with_suffix(".tmp")
    temporary.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")
    temporary.replace(page)


def keep(result: Result, folder: Path = RESULTS) -> Path:
    """As JSON, written whole and then renamed."""
    folder.mkdir(exist_ok=True)
    kept = folder / f"{result.name}.json"
    text = json.dumps(to_plain(result) | {"machine": machine.describe()}, indent=2)
    temporary = kept.with_suffix(".tmp")
    temporary.write_text(text + "\n")
    temporary.rename(kept)
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
