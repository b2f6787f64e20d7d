"""`shoal dev`, for real: a saved file reloads one service, broken code leaves the old one serving, debuggers attach."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.plane import Plane, plane
from tests.support.port import free_port
from tests.support.processes import until

pytestmark = pytest.mark.integration

WEB = """
import json
from words import WORD


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    body = json.dumps(WORD).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


@dataclass
class Session:
    """`shoal dev`, its lines as they come."""

    shoal: Plane
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def wait_for(self, text: str, *, after: int = 0, within_s: float = 60.0) -> int:
        """The number of the first line, from `after` on, that contains the text."""

        def look() -> int | None:
            return next((n + 1 for n, line in enumerate(self.lines) if n >= after and text in line), None)

        return int(until(look, f"a line with {text!r} in {self.lines[after:]}", within_s=within_s))


@contextlib.contextmanager
def dev(folder: Path, files: dict[str, str], *arguments: str) -> Iterator[Session]:
    """Up, and taken down by Ctrl-C with nothing left."""
    with plane(folder, files=files) as shoal:
        with subprocess.Popen(
            [*shoal.command, "dev", *arguments],
            cwd=folder,
            env=shoal.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            session = Session(shoal, process)
            assert process.stdout is not None
            reader = threading.Thread(target=lambda: session.lines.extend(process.stdout or ()))
            # `extend` takes over line by line: what is there can be looked at while more comes.
            reader.start()
            try:
                session.wait_for("is up in dev mode")
                shoal.note_shared_memory()
                yield session
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 0
            finally:
                if process.poll() is None:
                    process.kill()
                reader.join(30)
                print("".join(session.lines))
        shoal.assert_nothing_left()


def get(port: int) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return json.loads(answer.read())


def answers(port: int, word: str) -> None:
    until(lambda: get(port) == word, f"the answer {word!r}", within_s=30)


def app_file(**ports: int) -> str:
    return "services:\n" + "".join(
        f"  {name}: {{run: '{name}:app', port: {port}, replicas: 2}}\n" for name, port in ports.items()
    )


def test_a_saved_file_reloads_its_service_and_broken_code_leaves_the_old_one_serving(tmp_path: Path) -> None:
    web, other = free_port(), free_port()
    files = {
        "shoal.yaml": app_file(web=web, other=other),
        "web.py": WEB,
        "words.py": "WORD = 'one'\nprint('hello from words')\n",
        "other.py": WEB.replace("from words import WORD", "WORD = 'other'"),
    }
    with dev(tmp_path / "app", files) as session:
        folder = session.shoal.folder
        assert get(web) == "one"
        assert set(session.shoal.pids()) == {"envoy", "web-r1", "other-r1"}
        untouched = session.shoal.pids()["other-r1"]
        session.wait_for("web   | hello from words")

        (folder / "words.py").write_text("WORD = 'two'\n")
        answers(web, "two")
        seen = session.wait_for("web   | -- reloads: words.py")
        seen = session.wait_for("web   | -- ready after", after=seen)

        (folder / "words.py").write_text("WORD = (\n")
        seen = session.wait_for("SyntaxError", after=seen)
        session.wait_for("serves on with the code before", after=seen - 5)
        assert get(web) == "two"

        (folder / "words.py").write_text("WORD = 'three'\n")
        answers(web, "three")
        assert session.shoal.pids()["other-r1"] == untouched
        assert not [line for line in session.lines if line.startswith("other | -- reloads")]

        (folder / "notes.md").write_text("nothing to do with it")
        (folder / "shoal.yaml").write_text(app_file(web=web, other=other, third=0).replace("port: 0", "port: 80"))
        session.wait_for("shoal.yaml")
        (folder / "shoal.yaml").write_text("services: 7\n")
        session.wait_for("must be")
        assert get(web) == "three"


def test_down_from_elsewhere_ends_dev_too(tmp_path: Path) -> None:
    web = free_port()
    files = {"shoal.yaml": app_file(web=web), "web.py": WEB, "words.py": "WORD = 1\n"}
    with plane(tmp_path / "app", files=files) as shoal:
        line = [*shoal.command, "dev", "--json"]
        with subprocess.Popen(line, cwd=shoal.folder, env=shoal.env(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert any(json.loads(line).get("health") == "ready" for line in process.stdout)
            shoal.note_shared_memory()
            shoal.down()
            rest = [json.loads(line) for line in process.stdout]
            assert process.wait(30) == 0
            assert rest[-1]["message"] == "app was taken down"


def has_debugpy(python: str) -> bool:
    return subprocess.run([python, "-c", "import debugpy"], capture_output=True, check=False).returncode == 0


def test_without_debugpy_the_service_says_so_and_runs(tmp_path: Path) -> None:
    if has_debugpy(sys.executable):
        pytest.skip("this environment has debugpy")
    web = free_port()
    files = {"shoal.yaml": app_file(web=web), "web.py": WEB, "words.py": "WORD = 1\n"}
    with dev(tmp_path / "app", files, "--debug", "web") as session:
        session.wait_for("web   | shoal: service 'web' cannot be debugged: its environment has no debugpy")
        assert get(web) == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_node_opens_its_inspector_again_after_each_reload(tmp_path: Path) -> None:
    web = free_port()
    script = "require('http').createServer((q, a) => a.end(JSON.stringify('WORD'))).listen(process.env.PORT)\n"
    files = {
        "shoal.yaml": f"services:\n  web: {{command: node web.js, port: {web}}}\n",
        "web.js": script.replace("WORD", "one"),
    }
    with dev(tmp_path / "app", files, "--debug", "web") as session:
        seen = session.wait_for("debugger (Node's inspector): attach to 127.0.0.1:")
        port = int(session.lines[seen - 1].rstrip().rpartition(":")[2])

        def inspected() -> Any:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as found,
            ):
                return json.loads(found.read())
            return None

        first = until(inspected, "an inspector", within_s=20)[0]["id"]
        (session.shoal.folder / "web.js").write_text(script.replace("WORD", "two"))
        answers(web, "two")
        until(lambda: (inspected() or [{"id": first}])[0]["id"] != first, "the new one's inspector", within_s=30)


def test_debugpy_answers_at_the_address_that_is_told(tmp_path: Path) -> None:
    """In an environment of the service's own, made by uv: where there is no index and no cache, it is skipped."""
    folder = tmp_path / "app"
    made = folder / ".venv"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(made)], check=True, timeout=60)
    installed = subprocess.run(
        [*uv, "pip", "install", "--quiet", "--python", str(made / "bin/python"), "debugpy"],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"debugpy cannot be installed: {installed.stderr[-200:]}")
    web = free_port()
    files = {"shoal.yaml": app_file(web=web), "web.py": WEB, "words.py": "WORD = 'one'\n"}
    with dev(folder, files, "--debug", "web") as session:
        seen = session.wait_for("web   | shoal: service 'web' waits for a debugger at 127.0.0.1:")
        port = int(session.lines[seen - 1].rstrip().rpartition(":")[2])
        assert initialized(port)
        (folder / "words.py").write_text("WORD = 'two'\n")
        answers(web, "two")
        session.wait_for("waits for a debugger", after=seen)
        assert initialized(port)


def initialized(port: int) -> bool:
    """Whether a debug adapter answers there."""
    body = json.dumps({"seq": 1, "type": "request", "command": "initialize", "arguments": {"adapterID": "x"}}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        seen = b""
        while b'"command": "initialize"' not in seen.replace(b'":"', b'": "') and b'"initialize"' not in seen:
            block = link.recv(4096)
            if not block:
                return False
            seen += block
    return True
