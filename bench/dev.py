"""From saving a file to the new answer: `shoal dev` against `uvicorn --reload`, which watches by watchfiles too.

Both serve the same application from the same environment, side by side; they take turns. Shoal's way goes from the
file through the daemon, the keeper, a new process and Envoy; uvicorn ends its process and starts another. Each is asked
every 5 ms; what gets no answer meanwhile (uvicorn's port is closed while it reloads) is counted.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.support.plane import plane
from tests.support.port import free_port

from bench.apps import temporary_folder
from bench.packages import TIMEOUT_S, WORK
from bench.processes import process, wait_until
from bench.result import Measure, Result, Spread
from shoal.engines.local.uv import find_uv

WANTED = ("fastapi", "uvicorn[standard]", "granian")
PAUSE_S = 0.005
SETTLE_S = 0.7
"""Between two saves: as a fast typist, and longer than either takes to end what it replaced."""

RAW = """
BODY = b"WORD"


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})
"""
FASTAPI = """
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
def read() -> str:
    return "WORD"
"""
APPS = {"a bare ASGI application": RAW, "a FastAPI application": FASTAPI}
PEER = "uvicorn --reload"


def run(quick: bool) -> Result:
    """Takes about a minute. RuntimeError: something did not come up."""
    times = 3 if quick else 15
    measures, lost = [], {"shoal dev": 0, PEER: 0}
    for what, text in APPS.items():
        found = _reloads(text, times, lost)
        ours = Spread.of(found["shoal dev"])
        theirs = Spread.of(found[PEER])
        measures.append(
            Measure(
                what=f"dev: from saving a file to the new answer, {what}",
                unit="ms",
                ours=ours,
                peers={PEER: theirs},
                target=f"at most that of {PEER}",
                met=ours.median <= theirs.median,
            )
        )
    note = f"requests without an answer while reloading: shoal dev {lost['shoal dev']}, {PEER} {lost[PEER]}"
    return Result(name="dev", title="Reload", measures=measures, notes=[note])


def _reloads(text: str, times: int, lost: dict[str, int]) -> dict[str, list[float]]:
    """Milliseconds, of each in turn."""
    with temporary_folder() as folder:
        ports = {"shoal dev": free_port(), PEER: free_port()}
        app = f"app: reload\nservices:\n  web: {{run: web:app, port: {ports['shoal dev']}}}\n"
        other = folder / "uvicorn"
        other.mkdir()
        files = {"shoal dev": folder / "app" / "web.py", PEER: other / "web.py"}
        with plane(folder / "app", files={"shoal.yaml": app, "web.py": text}, quiet=True) as shoal:
            files[PEER].write_text(text)
            (shoal.folder / ".venv").symlink_to(_environment())
            uvicorn = [_environment() / "bin" / "uvicorn", "web:app", "--reload", "--port", str(ports[PEER])]
            with (
                process([*shoal.command, "dev"], folder=shoal.folder, env=shoal.env()),
                process([*uvicorn, "--log-level", "error"], folder=other),
            ):
                for port in ports.values():
                    wait_until(lambda port=port: _answer(port) == b"WORD", f"an answer on port {port}")
                shoal.note_shared_memory()
                time.sleep(SETTLE_S)
                found: dict[str, list[float]] = {name: [] for name in ports}
                for number in range(times + 1):  # the first one, of each, is not counted
                    for name, port in ports.items():
                        took, missed = _save(files[name], text.replace("WORD", f"w{number}"), f"w{number}", port)
                        if number:
                            found[name].append(took)
                            lost[name] += missed
                        time.sleep(SETTLE_S)
                return found


def _save(file: Path, text: str, word: str, port: int) -> tuple[float, int]:
    """Milliseconds until the answer is the new one; how many requests got none."""
    missed = 0

    def new() -> bool:
        nonlocal missed
        answer = _answer(port)
        missed += answer is None
        return answer == word.encode()

    # As editors do: another file takes the place of the old one.
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text)
    started = time.perf_counter()
    temporary.replace(file)
    _until(new, f"the answer {word} on port {port}")
    return (time.perf_counter() - started) * 1000, missed


def _until(condition: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s:g} s: {what}")
        time.sleep(PAUSE_S)


def _answer(port: int) -> bytes | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@cache
def _environment() -> Path:
    """Made once, in bench/.work, which git ignores. RuntimeError: it cannot be made."""
    folder = WORK / "venv-dev"
    if not (folder / "bin" / "uvicorn").exists():
        WORK.mkdir(exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--quiet", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder / "bin" / "python"), *WANTED)
    return folder


def _uv(*words: str) -> None:
    done = subprocess.run([find_uv(), *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"uv {words[0]}: {done.stderr.strip()[-600:]}")
