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
from pathlib import Path

from bench import machine
from bench.result import Result, table, to_plain

BENCHMARKS = ("hop", "stack", "up", "change", "edges", "idle", "dev")
"""In this order."""
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str]) -> int:
    there = [name for name in BENCHMARKS if importlib.util.find_spec(f"bench.{name}") is not None]
    parser = argparse.ArgumentParser(prog="bench", description="Measures Shoal beside others, on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(there)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--no-install", action="store_true", help="as root too: leave Debian's packages alone")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in there]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(there)}", file=sys.stderr)
        return 2
    # What is installed has its .pyc files; without them each start would compile Shoal anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not options.no_install:
        machine.install_peers()
    results, failed = [], 0
    for name in options.names or there:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            result = importlib.import_module(f"bench.{name}").run(options.quick)
        except Exception as error:  # one that cannot run must not take the others with it
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            failed = 1
            continue
        keep(result)
        results.append(result)
    print(f"\n{machine.summary()}\n\n{table(results)}")
    for result in results:
        for note in result.notes:
            print(f"\n{result.name}: {note}")
    return failed


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
