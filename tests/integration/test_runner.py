"""The runner as a process: what it serves, what it says, how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

RUNNER = Path(__file__).parents[2] / "src" / "shoal" / "runner" / "__main__.py"
PATIENCE_S = 20.0

APPS = """
import os, sys, threading, time

STARTED = []
threading.Thread(target=lambda: STARTED.append(threading.get_ident()), daemon=True).start()

async def respond(send, body, status=200):
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-app", b"asgi")]})
    await send({"type": "http.response.body", "body": body})

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                scope["state"]["made"] = "at startup"
                await send({"type": "lifespan.startup.complete"})
            else:
                print("lifespan shutdown", flush=True)
                await send({"type": "lifespan.shutdown.complete"})
                return
    if scope["path"] == "/slow":
        import asyncio
        print("working", flush=True)
        await asyncio.sleep(0.7)
    if scope["path"] == "/for-ever":
        import asyncio
        print("working", flush=True)
        await asyncio.sleep(1000)
    if scope["path"] == "/boom":
        raise ValueError("boom in asgi")
    if scope["path"] == "/state":
        return await respond(send, scope["state"]["made"].encode())
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await respond(send, f"{scope['method']} {scope['path']} {body.decode()}".encode())

def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise ValueError("boom in wsgi")
    if path == "/slow":
        print("working", flush=True)
        time.sleep(0.7)
    if path == "/for-ever":
        print("working", flush=True)
        time.sleep(1000)
    start_response("200 OK", [("x-app", "wsgi")])
    if path == "/threads":
        return [str(len(STARTED)).encode()]
    if path == "/pid":
        return [str(os.getpid()).encode()]
    return [f"{environ['REQUEST_METHOD']} {path} {environ['wsgi.input'].read().decode()}".encode()]

async def no_startup(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    await respond(send, b"never")

async def no_lifespan(scope, receive, send):
    assert scope["type"] == "http", "knows only http"
    await respond(send, b"served")
"""


@dataclass
class Replica:
    process: subprocess.Popen[str]
    socket: Path
    out: list[str] = field(default_factory=list)

    def ask(self, path: str = "/", *, method: str = "GET", body: str = "") -> str:
        """The whole answer; empty when nobody answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(os.fspath(self.socket))
            head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}"
            connection.sendall(f"{head}\r\n\r\n{body}".encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer.decode()

    def body(self, path: str = "/", **more: str) -> str:
        return self.ask(path, **more).partition("\r\n\r\n")[2]

    def wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"it ended: {''.join(self.out)}"
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(os.fspath(self.socket))
                return
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"it never listened: {''.join(self.out)}")

    def wait_for_line(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not any(text in line for line in self.out):
            assert time.monotonic() < deadline, f"no line with {text!r} in {self.out}"
            time.sleep(0.01)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    @property
    def last_line(self) -> str:
        return self.out[-1].rstrip("\n")


@dataclass
class Runners:
    folder: Path
    sockets: Path
    python: str = sys.executable
    started: list[tuple[Replica, threading.Thread]] = field(default_factory=list)

    def start(
        self, target: str, *options: str, python: str | None = None, env: dict[str, str] | None = None
    ) -> Replica:
        path = self.sockets / f"{len(self.started)}.sock"
        process = subprocess.Popen(
            [python or self.python, "-u", RUNNER, "web", target, "--folder", self.folder, "--socket", path, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=os.environ | (env or {}),
            start_new_session=True,
        )
        replica = Replica(process, path)
        reader = threading.Thread(target=self._read, args=(replica,))
        reader.start()
        self.started.append((replica, reader))
        return replica

    def serving(self, target: str, *options: str, **more: str) -> Replica:
        replica = self.start(target, *options, **more)  # type: ignore[arg-type]
        replica.wait_until_it_listens()
        return replica

    def ended(self, target: str, *options: str) -> Replica:
        replica = self.start(target, *options)
        replica.wait()
        self._join(replica)
        return replica

    def stopped(self, replica: Replica) -> int:
        code = replica.wait()
        self._join(replica)
        return code

    def end(self) -> None:
        for replica, _ in self.started:
            if replica.process.poll() is None:
                replica.process.kill()
            replica.process.wait()
            self._join(replica)

    def _join(self, replica: Replica) -> None:
        for other, reader in self.started:
            if other is replica:
                reader.join(PATIENCE_S)

    @staticmethod
    def _read(replica: Replica) -> None:
        assert replica.process.stdout is not None
        with replica.process.stdout as lines:
            for line in lines:
                replica.out.append(line)


@pytest.fixture
def runners(tmp_path: Path) -> Iterator[Runners]:
    (tmp_path / "apps.py").write_text(APPS)
    with tempfile.TemporaryDirectory(prefix="shoal-test-", dir="/tmp") as sockets:
        found = Runners(tmp_path, Path(sockets))
        yield found
        found.end()


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_an_application_is_served(runners: Runners, interface: str) -> None:
    replica = runners.serving(f"apps:{interface}")
    answer = replica.ask("/carts/7?x=1", method="POST", body="two of them")
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert f"x-app: {interface}" in answer
    assert answer.endswith("POST /carts/7 two of them")
    assert replica.socket.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_sigterm_lets_a_request_finish_and_refuses_new_ones(runners: Runners, interface: str) -> None:
    replica = runners.serving(f"apps:{interface}")
    bodies: list[str] = []
    asking = threading.Thread(target=lambda: bodies.append(replica.body("/slow")))
    asking.start()
    replica.wait_for_line("working")
    replica.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while True:  # from some moment on, and long before the slow request is answered
        try:
            replica.ask("/late")
        except OSError:
            break
        assert time.monotonic() < deadline
    assert not bodies
    asking.join(PATIENCE_S)
    assert bodies == ["GET /slow "]
    assert runners.stopped(replica) == 0
    assert not replica.socket.exists()
    if interface == "asgi":
        assert "lifespan shutdown\n" in replica.out


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_request_that_never_ends_is_cut_off_at_the_deadline(runners: Runners, interface: str) -> None:
    replica = runners.serving(f"apps:{interface}", "--stop-within", "0.3")
    asking = threading.Thread(target=ask_and_be_cut_off, args=(replica,))
    asking.start()
    replica.wait_for_line("working")
    replica.process.send_signal(signal.SIGTERM)
    assert runners.stopped(replica) == 0
    asking.join(PATIENCE_S)
    assert "was asked to stop 0.3 s ago and is still at work" in replica.last_line


def ask_and_be_cut_off(replica: Replica) -> None:
    try:
        assert replica.ask("/for-ever") == ""
    except ConnectionResetError:
        pass


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_an_error_in_a_request_is_logged_and_the_replica_goes_on(runners: Runners, interface: str) -> None:
    replica = runners.serving(f"apps:{interface}")
    assert replica.ask("/boom").startswith("HTTP/1.1 500 ")
    replica.wait_for_line(f"ValueError: boom in {interface}")
    assert replica.body("/") == "GET / "


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_socket_left_over_is_replaced(runners: Runners, interface: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(runners.sockets / "0.sock"))
    replica = runners.start(f"apps:{interface}")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert replica.body("/") == "GET / "
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_wsgi_replica_is_one_process_with_the_threads_of_its_module(runners: Runners) -> None:
    replica = runners.serving("apps:wsgi")
    assert replica.body("/pid") == str(replica.process.pid)
    assert replica.body("/threads") == "1"
    children = Path(f"/proc/{replica.process.pid}/task/{replica.process.pid}/children").read_text()
    assert children == ""


def test_the_lifespan_gives_its_state_to_requests(runners: Runners) -> None:
    assert runners.serving("apps:asgi").body("/state") == "at startup"


def test_an_application_without_lifespan_is_served(runners: Runners) -> None:
    assert runners.serving("apps:no_lifespan").body() == "served"


def test_a_failed_startup_ends_it_with_its_own_words(runners: Runners) -> None:
    replica = runners.ended("apps:no_startup")
    assert replica.process.returncode == 72
    assert any("no database" in line for line in replica.out)
    assert replica.last_line.startswith("shoal: service 'web' failed to start")


def test_a_module_that_raises_ends_it_with_the_traceback_and_one_plain_line(runners: Runners) -> None:
    (runners.folder / "hello.py").write_text("import shoal_no_such_package\n")
    replica = runners.ended("hello:app")
    assert replica.process.returncode == 70
    assert replica.out[0] == "Traceback (most recent call last):\n"
    assert replica.last_line == (
        "shoal: service 'web' could not import hello:app: "
        "ModuleNotFoundError: No module named 'shoal_no_such_package' (…/hello.py, line 1)"
    )


def test_what_is_no_application_ends_it(runners: Runners) -> None:
    (runners.folder / "hello.py").write_text("def create_app(): ...\n")
    replica = runners.ended("hello:create_app")
    assert (replica.process.returncode, len(replica.out)) == (71, 1)
    assert "looks like a factory" in replica.last_line


def test_an_import_that_never_returns_is_told_with_its_line_and_then_ended(runners: Runners) -> None:
    (runners.folder / "hello.py").write_text("import time\n\ndef run():\n    time.sleep(1000)\n\nrun()\n")
    replica = runners.ended("hello:app", "--import-warning", "0.2", "--import-deadline", "0.4")
    assert replica.process.returncode == 70
    assert "is still importing hello:app after 0.2 s (…/hello.py, line 4): does the module call app.run()" in "".join(
        replica.out
    )
    assert "guard it with if __name__ == '__main__'" in replica.last_line
    assert "could not import hello:app" in replica.last_line


def test_the_main_guard_of_a_module_is_never_run(runners: Runners) -> None:
    (runners.folder / "hello.py").write_text(APPS + "\nif __name__ == '__main__':\n    sys.exit('ran as a script')\n")
    assert runners.serving("hello:wsgi").body() == "GET / "


def test_a_service_sees_nothing_of_the_runner(runners: Runners) -> None:
    """Its modules may be called like the runner's, or like those of the standard library that come later."""
    for name in ("loading", "serving", "main", "failures", "detection", "statistics"):
        (runners.folder / f"{name}.py").write_text(f"NAME = 'the service has its own {name}'\n")
    (runners.folder / "hello.py").write_text(
        APPS + "\nimport loading, serving, main, failures, detection, statistics\n"
        "assert statistics.NAME and serving.NAME and main.NAME\n"
        "assert sys.argv == ['hello:wsgi'], sys.argv\n"
        f"assert sys.path[0] == {str(runners.folder)!r}, sys.path\n"
        "assert not any('runner' in part for part in sys.path), sys.path\n"
        "assert 'PYTHONPATH' not in os.environ\n"
        "assert 'granian.cli' not in sys.modules\n"
    )
    assert runners.serving("hello:wsgi").body() == "GET / "


def test_log_handlers_of_the_service_are_left_alone(runners: Runners) -> None:
    (runners.folder / "hello.py").write_text(
        APPS + "\nimport logging\n"
        "logging.basicConfig(filename='service.log', level=logging.INFO, format='%(message)s')\n"
        "def app(environ, start_response):\n"
        "    logging.info('a request')\n"
        "    return wsgi(environ, start_response)\n"
    )
    assert runners.serving("hello:app").body() == "GET / "
    assert (runners.folder / "service.log").read_text() == "a request\n"


def test_sigterm_ends_a_replica_whose_startup_hangs(runners: Runners) -> None:
    (runners.folder / "hello.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    print('working', flush=True)\n"
        "    await asyncio.sleep(1000)\n"
    )
    replica = runners.start("hello:app", "--stop-within", "0.3")
    replica.wait_for_line("working")
    replica.process.send_signal(signal.SIGTERM)
    assert runners.stopped(replica) == 0


def test_a_sigkill_leaves_nobody(runners: Runners) -> None:
    replica = runners.serving("apps:wsgi")
    replica.process.kill()
    assert runners.stopped(replica) == -signal.SIGKILL
    with pytest.raises(ConnectionRefusedError):
        replica.ask()


# In an environment of its own: granian in the overlay, and nothing of Shoal's.


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A virtual environment with nothing in it, and an overlay."""
    folder = tmp_path_factory.mktemp("bare")
    uv = Path(sys.executable).parent / "uv"
    overlay, venv = folder / "overlay", folder / "venv"
    subprocess.run([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, venv], check=True)
    requirements = RUNNER.parent / "requirements.txt"
    wanted = ["--target", overlay, "--no-deps", "--require-hashes", "-r", requirements]
    subprocess.run([uv, "pip", "install", "--quiet", "--python", venv / "bin" / "python", *wanted], check=True)
    return venv, overlay


def test_the_overlay_serves(runners: Runners, bare: tuple[Path, Path]) -> None:
    venv, overlay = bare
    (runners.folder / "hello.py").write_text(APPS + f"\nassert sys.path[-1] == {str(overlay)!r}\n")
    python = str(venv / "bin" / "python")
    replica = runners.serving("hello:asgi", "--overlay", str(overlay), python=python)
    assert replica.body() == "GET / "


def test_a_granian_that_is_too_old_is_set_aside(runners: Runners, bare: tuple[Path, Path]) -> None:
    venv, overlay = bare
    mine = runners.folder / "mine"
    shutil.copytree(venv, mine, symlinks=True)
    old = next((mine / "lib").glob("python*")) / "site-packages" / "granian"
    old.mkdir()
    (old / "__init__.py").write_text("VERSION = 'of long ago'\n")
    (runners.folder / "apps.py").write_text(APPS + f"\nassert sys.path[-1] == {str(overlay)!r}\n")
    replica = runners.serving("apps:wsgi", "--overlay", str(overlay), python=str(mine / "bin" / "python"))
    assert replica.body() == "GET / "


def test_no_granian_at_all_is_said(runners: Runners, bare: tuple[Path, Path]) -> None:
    venv, _ = bare
    replica = runners.start("apps:wsgi", python=str(venv / "bin" / "python"))
    assert runners.stopped(replica) == 73
    assert "has no usable granian" in replica.last_line
