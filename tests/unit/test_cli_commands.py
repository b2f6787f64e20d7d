"""Each command against a client that answers from memory: what it asks for, what it prints, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest

from shoal.cli import main as entry
from shoal.cli.options import ShoalCommand
from shoal.cli.reference import markdown
from shoal.errors import NotFoundError
from shoal.model.status import AppStatus, Deployment, ExecContext, Explanation, Health, LogLine, ServiceStatus
from shoal.paths import StateFolder
from shoal.ports import JournalEntry
from tests.unit.test_cli_views import CRASHING, USERS, app

PAGE = Path(__file__).parents[2] / "docs/reference/cli.md"
ENTRY = JournalEntry(sequence=7, at=0.0, kind="Deployed", subject="app", message="deploy 1", data={"generation": 1})


class FakeClient:
    """Every instance shares what it was asked and what it answers."""

    asked: ClassVar[list[tuple[Any, ...]]] = []
    statuses: ClassVar[list[AppStatus]] = []
    entries: ClassVar[list[JournalEntry]] = []

    def __init__(self, socket_path: Path) -> None:
        self.asked.append(("connect", socket_path.name))

    def status(self) -> AppStatus:
        """The next one; the last one again and again."""
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def deploy(self, document: dict[str, Any], *, only: Sequence[str] = ()) -> Deployment:
        self.asked.append(("deploy", document["name"], [service["name"] for service in document["services"]]))
        return Deployment(generation=2, changed=(), removed=(), sequence=12)

    def down(self, *, now: bool = False) -> None:
        self.asked.append(("down", *(["now"] if now else [])))

    def explain(self, name: str) -> Explanation:
        if name != CRASHING.name:
            raise NotFoundError(f"shop has no service '{name}'", way_out="did you mean 'carts'?")
        return Explanation(service=CRASHING, settings=(), decisions=(), waits=(), reaches={}, called_by=("web",))

    def scale(self, name: str, replicas: int) -> ServiceStatus:
        self.asked.append(("scale", name, replicas))
        return USERS

    def restart(self, name: str) -> ServiceStatus:
        self.asked.append(("restart", name))
        return USERS

    def logs(self, name: str, **query: Any) -> Iterator[LogLine]:
        self.asked.append(("logs", name, query))
        yield LogLine(replica="carts-r1", at="2026-01-01T00:00:00.000001Z", text="\x1b[1mhello\x1b[0m \x07")

    def events(self, after: int = 0, **query: Any) -> Iterator[JournalEntry]:
        self.asked.append(("events", after, query))
        yield from self.entries

    def exec_context(self, name: str) -> ExecContext:
        return ExecContext(env={"A": "1", "PATH": os.environ["PATH"]}, folder="/", hosts=None, nsswitch=None)


class Rude(socketserver.UnixStreamServer):
    request_queue_size = 64


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An app's folder, whose plane is a FakeClient; its socket is there, and hangs up on everybody."""
    import shoal.client.http

    runtime = tempfile.mkdtemp(prefix="sh-", dir="/tmp")  # a socket's path must be short
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(shoal.client.http, "Client", FakeClient)
    monkeypatch.setattr(FakeClient, "asked", [])
    monkeypatch.setattr(FakeClient, "statuses", [app(USERS, CRASHING, health=Health.FAILING)])
    monkeypatch.setattr(FakeClient, "entries", [ENTRY])
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shoal.yaml").write_text("services: {web: {command: 'sleep 9', port: 3000}}\n")
    monkeypatch.chdir(folder)
    state = StateFolder.beside(folder)
    state.run.mkdir(parents=True)
    with Rude(str(state.api_socket), socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder
        server.shutdown()
        thread.join()
    shutil.rmtree(runtime)


def out(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert entry.run(arguments) == status
    captured = capsys.readouterr()
    assert captured.err == "" or status
    return captured.out


def document(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    assert entry.run([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_every_command_explains_itself_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    context = click.Context(entry.cli)
    for name, (_, summary) in entry.COMMANDS.items():
        command = entry.cli.get_command(context, name)
        assert isinstance(command, ShoalCommand)
        assert command.name == name and command.examples
        text = out(capsys, name, "--help")
        assert "Examples:" in text and "--json" in text
        assert all(line.removeprefix("sudo ").startswith(f"shoal {name}") for line, _ in command.examples)
        assert summary.endswith(".")
        assert name in out(capsys, "--help")


def test_the_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text() == markdown(), "run: python -m shoal.cli.reference > docs/reference/cli.md"


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("run(['--help'])", "pydantic grpc google starlette rich asyncio yaml http.client uvloop shoal.model"),
        ("run(['up', '--help'])", "pydantic grpc google starlette rich asyncio yaml"),
        ("run(['ps'])", "pydantic grpc google starlette rich asyncio yaml"),
        ("run(['events', '-f'])", "pydantic grpc google starlette rich asyncio yaml"),
    ],
)
def test_a_command_loads_no_more_than_it_needs(plane: Path, code: str, forbidden: str) -> None:
    script = f"import sys; from shoal.cli.main import run; {code}; print(set({forbidden.split()}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=plane)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_wrong_command_is_answered_with_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["stauts"]) == 2
    assert capsys.readouterr().err == "shoal: there is no command 'stauts'\n  -> did you mean 'shoal status'?\n"
    assert entry.run(["scale", "web", "x", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err.endswith("-> see shoal scale --help\n")
    assert json.loads(captured.out)["code"] == "usage"


def test_no_command_at_all_is_answered_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run([]) == 2
    assert "Commands:" in capsys.readouterr().out


def test_status_and_ps(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "user-service  1         2/2    ready    http://localhost:3000\n" in out(capsys, "status")
    assert document(capsys, "status")["services"][1]["health"] == "failing"
    assert "carts-r1         -    " in out(capsys, "ps")
    assert [replica["id"] for replica in document(capsys, "ps")] == ["user-service-r1", "user-service-r2", "carts-r1"]


def test_a_folder_can_be_named(
    plane: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert out(capsys, "ps", "-f", str(plane)) == out(capsys, "ps", "--file", str(plane / "shoal.yaml"))
    assert entry.run(["ps", "-f", str(plane.parent)]) == 2
    assert "there is no app file" in capsys.readouterr().err


def test_without_a_plane_the_way_to_start_one_is_said(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    StateFolder.beside(plane).api_socket.unlink()
    assert entry.run(["ps", "--json"]) == 4
    captured = capsys.readouterr()
    assert captured.err == f"shoal: nothing runs in {plane}\n  -> start it: shoal up\n"
    assert json.loads(captured.out)["code"] == "not-running"
    state = StateFolder.beside(plane)
    state.processes.mkdir(parents=True)
    (state.processes / "web-r1.json").touch()
    assert entry.run(["ps"]) == 4
    assert "-> shoal up takes it up again, shoal down ends it" in capsys.readouterr().err


def test_explain(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Called by: web" in out(capsys, "explain", "carts")
    assert document(capsys, "explain", "carts")["service"]["name"] == "carts"
    assert entry.run(["explain", "cart"]) == 2
    assert "did you mean 'carts'?" in capsys.readouterr().err


def test_scale_and_restart(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "scale", "user-service", "2") == "user-service: 2 replicas wanted, 2 ready now\n"
    assert out(capsys, "restart", "user-service") == "user-service: 2 of 2 ready\n"
    assert document(capsys, "scale", "user-service", "2")["wanted"] == 2
    assert [call for call in FakeClient.asked if call[0] != "connect"] == [
        ("scale", "user-service", 2),
        ("restart", "user-service"),
        ("scale", "user-service", 2),
    ]


def test_logs(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "logs", "carts") == "carts-r1 | hello \\x07\n"
    assert out(capsys, "logs", "carts", "-t").startswith("2026-01-01T00:00:00.000001Z carts-r1 | hello")
    assert document(capsys, "logs", "carts", "-f", "-n", "5", "-r", "r1")["text"].startswith("\x1b[1m")
    assert FakeClient.asked[-1] == ("logs", "carts", {"replica": "carts-r1", "tail": 5, "follow": True})


def test_events(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "events").endswith("  app  deploy 1\n")
    assert document(capsys, "events", "--after", "3", "--service", "web")["sequence"] == 7
    assert FakeClient.asked[-1] == ("events", 3, {"subject": "web", "limit": 1000})
    out(capsys, "events", "-f")
    assert FakeClient.asked[-1] == ("events", -50, {"subject": None, "follow": True})


def test_check_tells_what_is_there_or_every_problem(plane: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "check") == "shop is fine: 1 service (web)\n"
    assert document(capsys, "check") == {"ok": True, "app": "shop", "folder": str(plane), "services": ["web"]}
    (plane / "shoal.yaml").write_text("services:\n  web: {prot: 1}\n  Db: {command: x}\n")
    assert entry.run(["check"]) == 2
    said = capsys.readouterr().err
    for place in ("shoal.yaml:2:3: services.web: nothing to run", "shoal.yaml:2:9: services.web.prot: unknown key",
                  "shoal.yaml:3:3: services.Db: the name 'Db'"):  # fmt: skip
        assert place in said
    problems = document(capsys, "check", status=2)["problems"]
    assert [(problem["line"], problem["column"]) for problem in problems] == [(2, 3), (2, 9), (3, 3)]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from shoal import __version__

    assert out(capsys, "version").startswith(f"shoal {__version__} (Python 3.")
    assert document(capsys, "version")["shoal"] == __version__


def test_exec_takes_the_commands_place(
    plane: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: ran.append(arguments))
    monkeypatch.setattr(os, "chdir", lambda folder: ran.append(folder))
    monkeypatch.setenv("TERM", "vt100")
    monkeypatch.setenv("SECRET", "of the shell")
    entry.run(["exec", "web", "--", "sh", "-c", "exit 3", "--json"])
    folder, (program, argv, env) = ran
    assert (folder, Path(program).name, argv) == ("/", "sh", ["sh", "-c", "exit 3", "--json"])
    assert (env["A"], env["TERM"], env.get("SECRET")) == ("1", "vt100", None)
    entry.run(["exec", "web", "--file", str(plane), "--", "tail", "-f", "log"])
    assert ran[3][1] == ["tail", "-f", "log"]
    assert entry.run(["exec", "web", "-f", "/nowhere/at/all", "--", "sh"]) == 2
    assert "/nowhere/at/all" in capsys.readouterr().err
    assert document(capsys, "exec", "web")["env"]["A"] == "1"
    assert entry.run(["exec", "web", "no-such-command"]) == 127
    assert entry.run(["exec", "web"]) == 2


def test_exec_enters_the_service_s_names_by_the_keeper_s_own_way_in() -> None:
    from shoal.client.plane import entering

    context = ExecContext(env={}, folder="/", hosts="/h", nsswitch=None)
    python, *flags, enter, hosts, nsswitch, dashes, command = entering(context, ["ls"])
    assert (python, flags, hosts, nsswitch, dashes, command) == (sys.executable, ["-I", "-S"], "/h", "-", "--", "ls")
    assert Path(enter).is_file()


@pytest.mark.parametrize(("name", "hint"), [("user-servic", "did you mean 'user-service'?"), ("x", "there are: ")])
def test_a_call_to_nobody_names_those_there_are(
    plane: Path, capsys: pytest.CaptureFixture[str], name: str, hint: str
) -> None:
    assert entry.run(["call", name]) == 2
    assert hint in capsys.readouterr().err


def test_an_interrupt_is_calm(plane: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: FakeClient) -> AppStatus:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeClient, "status", interrupt)
    assert entry.run(["ps"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_left_is_no_error(plane: Path) -> None:
    script = "import sys; from shoal.cli.main import run; sys.stdout.flush(); sys.exit(run(['--help']))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
