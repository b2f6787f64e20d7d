"""The whole stack a request: proxy and application server together, with the same Flask and the same FastAPI app.

Shoal (Envoy and its runner) against nginx with gunicorn (gthread) or uvicorn (uvloop, httptools), each with one process
of the application and a Unix socket between, as their documentation advises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.support.plane import Plane, plane
from tests.support.port import free_port

from bench.apps import answers, temporary_folder
from bench.load import Load, available, rounds
from bench.packages import programs
from bench.processes import family, process, wait_until
from bench.proxies import nginx
from bench.result import Measure, Result, Spread

THREADS = 8
"""Of gunicorn's one worker."""
FLASK = """
from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return {"message": "Hello, World!", "items": [1, 2, 3]}
"""
FASTAPI = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def hello():
    return {"message": "Hello, World!", "items": [1, 2, 3]}
"""
GUNICORN = (
    "gunicorn",
    "-w",
    "1",
    "-k",
    "gthread",
    "--threads",
    str(THREADS),
    *["--keep-alive", "60", "-b", "unix:{socket}", "app:app"],
)
UVICORN = ("uvicorn", *["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--uds", "{socket}", "app:app"])
Candidates = dict[str, tuple[str, Callable[[], Iterable[int]]]]


def run(quick: bool) -> Result:
    """RuntimeError: no load generator, or something did not come up."""
    if available():
        raise RuntimeError(available())
    count, times = (2_000, 2) if quick else (8_000, 7)
    with temporary_folder() as folder, ExitStack() as stack:
        ports = {name: free_port() for name in ("flask", "fastapi", "fastapi-plain")}
        shoal = stack.enter_context(plane(folder / "app", files=_files(ports), quiet=True))
        shoal.up()
        flask: Candidates = {"Shoal": _ours(shoal, "flask", ports["flask"])}
        fastapi: Candidates = {
            "Shoal": _ours(shoal, "fastapi", ports["fastapi"]),
            "Shoal without uvloop": _ours(shoal, "fastapi-plain", ports["fastapi-plain"]),
        }
        failed: dict[str, str] = {}
        for candidates, name, app, argv in (
            (flask, "nginx + gunicorn", "flask", GUNICORN),
            (fastapi, "nginx + uvicorn", "fastapi", UVICORN),
        ):
            try:
                candidates[name] = _theirs(stack, folder, app, argv)
            except (RuntimeError, OSError) as error:
                failed[name] = f"failed: {error}"
        measures = [
            _measure(what, candidates, rounds(candidates, count, times, failed), failed, target, peer)
            for what, candidates, target, peer in (
                ("Flask", flask, "less than nginx + gunicorn", "nginx + gunicorn"),
                ("FastAPI", fastapi, "at most nginx + uvicorn", "nginx + uvicorn"),
            )
        ]
    return Result(name="stack", title="The whole stack", measures=measures, notes=["one process of the app each"])


def _files(ports: dict[str, int]) -> dict[str, str]:
    services = "".join(
        f"  {name}: {{run: app:app, cwd: {name}, port: {port}, names: env}}\n" for name, port in ports.items()
    )
    return {
        "shoal.yaml": f"app: stack\nservices:\n{services}",
        "flask/app.py": FLASK,
        "flask/requirements.txt": "flask\n",
        "fastapi/app.py": FASTAPI,
        "fastapi/requirements.txt": "fastapi\nuvloop\n",
        "fastapi-plain/app.py": FASTAPI,
        "fastapi-plain/requirements.txt": "fastapi\n",
    }


def _ours(shoal: Plane, service: str, port: int) -> tuple[str, Callable[[], Iterable[int]]]:
    return f"http://127.0.0.1:{port}/", lambda: [
        *family(shoal.pids()["envoy"]),
        *family(shoal.replicas(service)[0]["pid"]),
    ]


def _theirs(
    stack: ExitStack, folder: Path, app: str, command: Sequence[str]
) -> tuple[str, Callable[[], Iterable[int]]]:
    """`{socket}` in the command is where it is to listen."""
    socket = folder / f"{app}.sock"
    argv = [programs() / command[0], *(word.format(socket=socket) for word in command[1:])]
    port = free_port()
    server = stack.enter_context(process(argv, folder=folder / "app" / app))
    wait_until(socket.exists, f"{argv[0]} listens")
    place = folder / f"nginx-{app}"
    place.mkdir()
    proxy = stack.enter_context(nginx(port, socket, place))
    wait_until(partial(answers, port), f"nginx before {argv[0]} answers")
    return proxy.url, lambda: [*family(proxy.pid), *family(server.pid)]


def _measure(
    what: str, candidates: Candidates, found: dict[str, list[Load]], failed: dict[str, str], target: str, peer: str
) -> Measure:
    costs = {name: Spread.of([load.cpu_us for load in loads]) for name, loads in found.items()}
    ours = costs.pop("Shoal")
    beside = {name: costs.pop(name) for name in list(costs) if name.startswith("Shoal ")}
    return Measure(
        what=f"stack: CPU of proxy and {what} server a request",
        unit="µs",
        ours=ours,
        peers=costs | {name: failed[name] for name in (*candidates, peer) if name in failed and name not in costs},
        beside={name.removeprefix("Shoal "): spread for name, spread in beside.items()},
        target=target,
        met=ours.median <= costs[peer].median if peer in costs else None,
    )
