"""`make bench`: runs every benchmark, or those named: `python -m bench idle`."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from bench import idle

BENCHMARKS: dict[str, Callable[[], dict[str, object]]] = {"idle": idle.main}
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    for name in names or BENCHMARKS:
        result = {"machine": platform.platform(), "python": platform.python_version(), **BENCHMARKS[name]()}
        text = json.dumps(result, indent=2)
        print(f"\n{text}")
        kept = RESULTS / f"{name}.json"
        kept.with_suffix(".tmp").write_text(text + "\n")
        kept.with_suffix(".tmp").rename(kept)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
