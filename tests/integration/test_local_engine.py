"""The local engine with a real keeper, real processes and sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from shoal.engines.local import ownership
from shoal.errors import EngineError
from shoal.model.app import Names
from shoal.model.event import (
    ProbeFailed,
    ProbeSucceeded,
    ProxyExited,
    ProxyStarted,
    ReplicaExited,
    ReplicaProgressed,
    ReplicaStarted,
    Warned,
)
from shoal.model.replica import TcpAddress, UnixAddress
from tests.integration.engine_box import Box, run, until
from tests.support.port import free_port
from tests.support.processes import alive

pytestmark = pytest.mark.integration

WEB = """
import asyncio, json, os, socket

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/slow":
        print("working", flush=True)
        await asyncio.sleep(0.7)
    if scope["path"] == "/env":
        body = json.dumps(dict(os.environ)).encode()
    elif scope["path"].startswith("/resolve/"):
        body = socket.gethostbyname(scope["path"].rpartition("/")[2]).encode()
    else:
        body = b"pid %d" % os.getpid()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        code = STATUS
        self.send_response(code); self.end_headers(); self.wfile.write(b"pid %d" % os.getpid())
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""


def server(port: str = "int(os.environ['PORT'])", status: str = "200") -> str:
    return SERVER.replace("PORT)", f"{port})").replace("STATUS", status)


def text_of(path: str) -> str:
    return Path(path).read_text()


def test_an_application_is_started_probed_and_stopped(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        web = box.app("web")
        replica = await box.ready(web)
        started = await box.event(ReplicaStarted, replica)
        assert started.address == UnixAddress(path=str(box.state.replica_socket(replica)))
        assert await box.get(replica) == f"pid {started.pid}"
        assert await box.engine.stop(replica, force=False)
        assert (await box.exit(replica)).code == 0
        assert box.of(replica) == ["ReplicaStarted", "ReplicaExited"]
        assert not await box.engine.stop(replica, force=True)
        await box.engine.forget(replica)
        assert await box.engine.observe() == []

    run(tmp_path, scenario)


def test_without_requirements_it_runs_in_shoals_own_python_which_is_said_once(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        web = box.app("web")
        await asyncio.gather(box.ready(web), box.ready(web, number=2))
        warned = [event for event in box.events if isinstance(event, Warned)]
        assert [(event.subject, event.message) for event in warned] == [
            ("web", "runs in Shoal's own Python environment")
        ]
        assert "requirements.txt; Shoal installs them" in warned[0].way_out

    run(tmp_path, scenario)


def test_an_application_runs_in_the_environment_that_its_requirements_describe(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("requirements.txt", "# nothing: all that the service needs is the standard library\n")
        box.write("web.py", WEB + "\nimport importlib.util\nassert importlib.util.find_spec('pydantic') is None\n")
        web = box.app("web")
        replica = await box.ready(web)
        environ = await box.get(replica, "/env")
        assert str(box.state.environments) in environ
        assert not [event for event in box.events if isinstance(event, Warned)]

    run(tmp_path, scenario)


def test_a_command_listens_on_the_port_it_is_given(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        api = box.python("api", server())
        first, second = await asyncio.gather(box.ready(api), box.ready(api, number=2))
        addresses = [(await box.event(ReplicaStarted, replica)).address for replica in (first, second)]
        assert addresses[0] != addresses[1]
        assert all(isinstance(address, TcpAddress) for address in addresses)
        assert await box.get(first) == f"pid {await box.pid(first)}"

    run(tmp_path, scenario)


def test_sigterm_lets_requests_in_flight_finish(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        web = box.app("web")
        replica = await box.ready(web)
        asked = asyncio.create_task(box.get(replica, "/slow"))
        await box.logged(web, "working")
        assert await box.engine.stop(replica, force=False)
        assert await asked == f"pid {await box.pid(replica)}"
        assert (await box.exit(replica)).code == 0

    run(tmp_path, scenario)


def test_a_module_that_raises_tells_why_in_one_line_with_the_traceback_below(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", "import shoal_no_such_package\n")
        end = await box.ended(box.app("web"))
        reason = "ModuleNotFoundError: No module named 'shoal_no_such_package' (…/web.py, line 1)"
        assert end.code == 70
        assert end.reason == f"could not import web:app: {reason}"
        assert end.tail[0] == "Traceback (most recent call last):"
        assert end.tail[-1] == f"shoal: service 'web' could not import web:app: {reason}"

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("code", "exit_code", "reason"),
    [
        ("print('last words'); raise SystemExit(3)", 3, "exit code 3"),
        ("import os; print('last words', flush=True); os.kill(os.getpid(), 9)", -9, "killed by signal 9"),
    ],
)
def test_a_crash_is_reported_with_its_code_and_last_lines(
    code: str, exit_code: int, reason: str, tmp_path: Path
) -> None:
    async def scenario(box: Box) -> None:
        end = await box.ended(box.python("job", code, port=None))
        assert (end.code, end.reason, end.tail) == (exit_code, reason, ("last words",))

    run(tmp_path, scenario)


def test_the_tail_of_an_attempt_has_nothing_of_the_last_one(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.python("job", "import os; print('attempt', os.getpid()); raise SystemExit(1)", port=None)
        first = await box.ended(job)
        second = await box.ended(job, attempt=2)
        assert len(first.tail) == len(second.tail) == 1
        assert first.tail != second.tail
        assert box.of("job-r1") == ["ReplicaStarted", "ReplicaExited"] * 2

    run(tmp_path, scenario)


def test_a_command_that_does_not_exist_is_an_exit_in_words(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        end = await box.ended(box.command("web", "shoal-no-such-command", "$PORT"))
        assert end.code is None
        assert "cannot run shoal-no-such-command: no such command in PATH" in end.reason
        assert box.of("web-r1") == ["ReplicaExited"]

    run(tmp_path, scenario)


def test_a_module_that_runs_a_server_of_its_own_is_told_so_at_once(tmp_path: Path) -> None:
    """Flask's `app.run()` at import never returns; the runner says so after 30 s, the prober sees it before."""

    async def scenario(box: Box) -> None:
        port = free_port()
        box.write("web.py", server(port=str(port)))
        replica = await box.start(box.app("web"))
        await box.failure(
            replica, f"does not listen yet, but has opened 127.0.0.1:{port}: does its module call app.run()?"
        )

    run(tmp_path, scenario)


def test_a_folder_that_does_not_exist_is_an_exit_in_words(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        end = await box.ended(box.app("web", folder=str(tmp_path / "no")))
        assert end.reason == (
            f"the folder of service 'web' does not exist: {tmp_path / 'no'}; correct 'cwd' in the app file"
        )

    run(tmp_path, scenario)


def test_an_environment_that_cannot_be_made_is_an_exit_with_uvs_last_words(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("requirements.txt", "--no-index\nshoal-no-such-package\n")
        end = await box.ended(box.app("web"))
        assert "cannot be made" in end.reason
        assert "shoal-no-such-package" in " ".join(end.tail)

    run(tmp_path, scenario)


def test_a_command_that_ignores_its_port_is_told_where_it_listens(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        elsewhere = free_port()
        web = box.python("web", server(port=str(elsewhere)))
        replica = await box.start(web)
        address = (await box.event(ReplicaStarted, replica)).address
        assert isinstance(address, TcpAddress)
        await box.failure(replica, f"listens on 127.0.0.1:{elsewhere}, not on $PORT={address.port}")

    run(tmp_path, scenario)


def test_a_command_that_listens_on_ipv6_alone_is_told_so(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        bind = "socket.create_server(('::1', int(os.environ['PORT'])), family=socket.AF_INET6)"
        code = f"import os, socket, time; held = {bind}; time.sleep(1000)"
        replica = await box.start(box.python("web", code))
        address = (await box.event(ReplicaStarted, replica)).address
        assert isinstance(address, TcpAddress)
        await box.failure(replica, f"listens on [::1]:{address.port} only; listen on 127.0.0.1 or 0.0.0.0")

    run(tmp_path, scenario)


def test_a_stranger_who_answers_on_the_port_is_named(tmp_path: Path) -> None:
    """As with SO_REUSEPORT: the replica's own server may live, and be answered for."""

    async def scenario(box: Box) -> None:
        script = "import os, time; print(os.environ['PORT'], flush=True); time.sleep(1000)"
        web = box.python("web", script)
        replica = await box.start(web)
        port = int(await box.logged(web, ""))
        stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", server(port=str(port)))
        try:
            await box.failure(replica, f"port {port} is answered by pid {stranger.pid} (python")
            assert not [e for e in box.events if isinstance(e, ProbeSucceeded)]
        finally:
            stranger.kill()
            await stranger.wait()

    run(tmp_path, scenario)


def test_a_child_of_the_command_may_be_who_listens(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("server.py", server())
        await box.ready(box.command("web", "/bin/sh", "-c", f"echo before; {sys.executable} server.py; echo after"))

    run(tmp_path, scenario)


def test_a_command_that_goes_to_the_background_is_told_so(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("server.py", server())
        code = (
            "import subprocess, sys, os, time, socket\n"
            "p = subprocess.Popen([sys.executable, 'server.py'], start_new_session=True)\n"
            "print(p.pid, flush=True)\n"
            "while True:\n"
            "    try: socket.create_connection(('127.0.0.1', int(os.environ['PORT']))).close(); break\n"
            "    except OSError: time.sleep(0.01)\n"
            "os._exit(0)\n"
        )
        box.write("nginx", code)
        for name in ("auto", "env"):
            web = box.command(f"web-{name}", sys.executable, str(box.folder / "nginx"), names=Names(name))
            end = await box.ended(web)
            assert "ended with exit code 0 and left a process behind, which was ended too" in end.reason
            assert "went to the background; run it in the foreground: nginx -g 'daemon off;'" in end.reason
            pid = int(await box.logged(web, ""))
            await until(lambda pid=pid: not alive(pid), "the end of what was left behind")

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("health", "status", "ready", "words"),
    [
        ("/healthz", "200 if self.path == '/healthz' else 500", True, ""),
        ("/healthz", "503 if self.path == '/healthz' else 200", False, "HTTP 503 on /healthz"),
        (None, "404", True, ""),
        (None, "500", False, "HTTP 500 on /"),
    ],
)
def test_readiness_is_what_the_health_path_says(
    health: str | None, status: str, ready: bool, words: str, tmp_path: Path
) -> None:
    async def scenario(box: Box) -> None:
        web = box.python("web", server(status=status), health=health)
        replica = await box.start(web)
        if ready:
            await box.event(ProbeSucceeded, replica)
        else:
            await box.failure(replica, words)

    run(tmp_path, scenario)


def test_a_worker_without_a_port_is_ready_after_a_second(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.python("job", "import time; time.sleep(1000)", port=None)
        replica = await box.ready(job)
        started = await box.event(ReplicaStarted, replica)
        assert started.address is None
        assert (await box.event(ProbeSucceeded, replica)).at - started.at >= 0.99

    run(tmp_path, scenario)


def test_a_ready_replica_that_is_killed_is_reported_by_the_keeper_at_once(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        replica = await box.ready(box.app("web"))
        os.kill(await box.pid(replica), signal.SIGKILL)
        assert (await box.exit(replica)).code == -signal.SIGKILL

    run(tmp_path, scenario)


def test_the_next_attempt_replaces_a_socket_that_a_kill_left_over(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        web = box.app("web")
        replica = await box.ready(web)
        assert await box.engine.stop(replica, force=True)
        assert (await box.exit(replica)).code == -signal.SIGKILL
        path = box.state.replica_socket(replica)
        assert path.exists()
        await box.ready(web, attempt=2)
        await box.engine.stop(replica, force=False)
        await box.exit(replica, attempt=2)
        await box.engine.forget(replica)
        assert not path.exists()

    run(tmp_path, scenario)


def test_sigterm_for_a_shell_goes_to_the_program_that_it_waits_for(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        code = (
            "import signal, time\n"
            "def end(*_): print('ended well', flush=True); raise SystemExit(0)\n"
            "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(1000)\n"
        )
        box.write("job.py", code)
        job = box.command("job", "/bin/sh", "-c", f"{sys.executable} job.py; echo cleaned up", port=None)
        replica = await box.start(job)
        await box.logged(job, "up")
        assert await box.engine.stop(replica, force=False)
        end = await box.exit(replica)
        assert end.tail == ("up", "ended well", "cleaned up")

    run(tmp_path, scenario)


def test_sigterm_goes_to_the_leader_alone_and_sigkill_to_all(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        code = (
            "import os, signal, sys, time\n"
            "child = os.fork()\n"
            "who = 'leader' if child else 'child'\n"
            "signal.signal(signal.SIGTERM, lambda *_: print(who, 'got it', flush=True))\n"
            "print(who, os.getpid(), 'up', flush=True)\n"
            "while True: time.sleep(0.1)\n"
        )
        job = box.python("job", code, port=None)
        replica = await box.start(job)
        child = int((await box.logged(job, "child")).split()[1])
        await box.logged(job, "leader")
        await box.engine.stop(replica, force=False)
        await box.logged(job, "leader got it")
        await box.engine.stop(replica, force=True)
        end = await box.exit(replica)
        assert end.code == -signal.SIGKILL
        assert not any("child got it" in line for line in end.tail)
        assert not alive(child)

    run(tmp_path, scenario)


def test_a_start_in_preparation_is_given_up(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        box.write("requirements.txt", "--no-index\n")
        web = box.app("web")
        start = asyncio.create_task(box.start(web))
        await box.event(ReplicaProgressed, "web-r1")
        assert await box.engine.stop("web-r1", force=False)
        assert (await box.exit("web-r1")).reason == "its start was given up"
        await start
        assert box.of("web-r1") == ["ReplicaExited"]
        await box.ready(web, attempt=2)

    run(tmp_path, scenario)


def test_starting_what_runs_does_nothing(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        job = box.python("job", "import time; time.sleep(1000)", port=None)
        await asyncio.gather(box.start(job), box.start(job))
        await box.start(job)
        assert box.of("job-r1") == ["ReplicaStarted"]
        with pytest.raises(EngineError, match="still runs its attempt 1"):
            await box.start(job, attempt=2)

    run(tmp_path, scenario)


def test_an_engine_that_comes_later_finds_and_probes_what_runs(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        web, api = box.app("web"), box.python("api", server())
        job = box.python("job", "import time; time.sleep(1000)", port=None)
        for service in (web, api, job):
            await box.ready(service)
        pids = {replica: await box.pid(replica) for replica in ("web-r1", "api-r1", "job-r1")}
        port = (await box.event(ReplicaStarted, "api-r1")).address
        await box.disconnect()
        os.kill(pids["job-r1"], signal.SIGKILL)
        box.events.clear()
        await box.connect()
        found = {one.replica: one for one in await box.engine.observe()}
        assert {name: one.pid for name, one in found.items()} == pids
        assert (found["web-r1"].running, found["api-r1"].address) == (True, port)
        if found["job-r1"].running:
            await box.exit("job-r1")
        else:
            assert found["job-r1"].exit_code == -signal.SIGKILL
        await box.event(ProbeSucceeded, "web-r1")
        await box.event(ProbeSucceeded, "api-r1")
        assert ReplicaStarted not in map(type, box.events)
        # Its port is still its own.
        other = await box.ready(api, number=2)
        assert (await box.event(ReplicaStarted, other)).address != port

    run(tmp_path, scenario)


def test_the_proxy_is_started_once_and_its_end_reported(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        await box.engine.start_proxy()
        await box.engine.start_proxy()
        pid = (await box.event(ProxyStarted)).pid
        assert await box.engine.observe_proxy() == pid
        await box.proxy_logged("proxy is up")
        await box.engine.stop_proxy()
        end = (await box.event(ProxyExited)).exit
        assert (end.code, end.tail) == (-signal.SIGTERM, ("proxy is up",))
        assert await box.engine.observe_proxy() is None

    run(tmp_path, scenario)


def test_a_proxy_that_was_started_ahead_is_told_of_only_when_it_is_asked_for(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        await box.engine.start_proxy_ahead()
        await box.proxy_logged("proxy is up")
        assert await box.engine.observe_proxy() is None
        assert ProxyStarted not in map(type, box.events)
        await box.engine.start_proxy()
        pid = (await box.event(ProxyStarted)).pid
        assert await box.engine.observe_proxy() == pid
        await box.engine.stop_proxy()
        await box.event(ProxyExited)

    run(tmp_path, scenario)


def test_a_proxy_that_dies_ahead_of_its_time_is_started_when_it_is_asked_for(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        argv, box.proxy_argv = box.proxy_argv, ["/bin/sh", "-c", "echo gone at once"]
        await box.engine.start_proxy_ahead()
        await box.proxy_logged("gone at once")
        await until(lambda: not box.engine._proxy.ahead, "its end")
        assert not {ProxyStarted, ProxyExited} & set(map(type, box.events))
        box.proxy_argv = argv
        await box.engine.start_proxy()
        await box.event(ProxyStarted)
        await box.engine.stop_proxy()
        await box.event(ProxyExited)

    run(tmp_path, scenario)


def test_a_proxy_that_cannot_start_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.proxy_argv = ["/bin/sh", "-c", "echo cannot bind: address in use; exit 1"]
        await box.engine.start_proxy()
        end = (await box.event(ProxyExited)).exit
        assert (end.code, end.tail) == (1, ("cannot bind: address in use",))
        box.events.clear()
        box.proxy_argv = ["/no/such/envoy"]
        await box.engine.start_proxy()
        assert "/no/such/envoy" in (await box.event(ProxyExited)).exit.reason
        box.events.clear()
        await box.engine.stop_proxy()
        await box.event(ProxyExited)

    run(tmp_path, scenario)


def test_a_port_that_somebody_else_holds_is_told_with_its_owner(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        with socket.create_server(("127.0.0.1", 0)) as held, socket.create_server(("0.0.0.0", 0)) as wide:
            ports = [held.getsockname()[1], wide.getsockname()[1]]
            box.python("web", "", port=ports[0], publish=True)
            box.python("quiet", "", port=ports[0])
            box.python("api", "", port=ports[1])
            app = box.launch(box.services[0]).app
            comm = ownership.command_of(os.getpid())
            assert box.engine.check_ports(app) == [
                f"service 'web' wants port {ports[0]}, which pid {os.getpid()} ({comm}) holds; "
                "free it or change 'port' of 'web'",
                f"service 'api' wants port {ports[1]}, which pid {os.getpid()} ({comm}) holds; "
                "free it or change 'port' of 'api'",
            ]
        assert box.engine.check_ports(app) == []

    run(tmp_path, scenario)


def test_ports_that_our_own_proxy_holds_are_no_obstacle(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        port = free_port()
        code = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); print('up'); time.sleep(1000)"
        box.proxy_argv = [sys.executable, "-u", "-c", code]
        web = box.python("web", "", port=port, publish=True)
        await box.engine.start_proxy()
        await box.proxy_logged("up")
        assert box.engine.check_ports(box.launch(web).app) == []

    run(tmp_path, scenario)


def test_an_app_folder_with_a_long_path_and_spaces_works(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces" / ("long" * 40)
    assert len(str(folder)) > 200

    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        box.write("requirements.txt", "")
        box.write("server.py", server())
        await box.ready(box.app("web"))
        await box.ready(box.command("api", "/bin/sh", "-c", "exec python server.py"))

    run(folder, scenario)


def test_a_service_with_the_longest_name_has_a_socket(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        await box.ready(box.app("w" + "e" * 61 + "b"))

    run(tmp_path, scenario)


def test_names_lead_to_the_addresses_of_edges(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        if box.engine.names_mode != "names":
            pytest.skip(box.engine.names_reason)
        box.write("web.py", WEB)
        web = box.app("web", calls=("api",))
        api = box.app("api")
        launch = box.launch(web)
        await box.ready(web)
        await box.ready(api)
        assert await box.get("web-r1", "/resolve/api") == launch.edges.address("web", "api")
        assert await box.get("api-r1", "/resolve/web") == launch.edges.address("api", "*")
        context = box.engine.exec_context(launch.app, launch.edges, launch.revision)
        assert context.hosts is not None
        assert launch.edges.address("web", "api") in text_of(context.hosts)
        assert context.env["API_URL"] == "http://api:3001"
        assert context.folder == str(box.folder)

    run(tmp_path, scenario)


def test_a_service_may_do_without_names(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        box.write("web.py", WEB)
        web = box.app("web", calls=("api",), names=Names.ENV, env=(("PEER", "${api.url}"),))
        box.app("api")
        replica = await box.ready(web)
        address = box.launch(web).edges.address("web", "api")
        environ = await box.get(replica, "/env")
        assert f'"API_URL": "http://{address}:3001"' in environ
        assert f'"PEER": "http://{address}:3001"' in environ
        assert os.readlink(f"/proc/{await box.pid(replica)}/ns/mnt") == os.readlink("/proc/self/ns/mnt")

    run(tmp_path, scenario)


def test_a_machine_without_names_says_so_once_and_starts_everything_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.engines.local.names.detect", lambda: (False, "no namespaces here"))

    async def scenario(box: Box) -> None:
        assert (box.engine.names_mode, box.engine.names_reason) == ("env", "no namespaces here")
        job = box.python("job", "import time; time.sleep(1000)", port=None)
        await asyncio.gather(box.ready(job), box.ready(job, number=2))
        warned = await box.event(Warned)
        assert (warned.subject, warned.way_out) == ("app", "no namespaces here")
        assert sum(isinstance(event, Warned) for event in box.events) == 1

    run(tmp_path, scenario)


def test_names_that_fail_later_are_given_up_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out when the first replica starts: it starts nevertheless."""
    monkeypatch.setattr("shoal.engines.local.names.detect", lambda: (True, ""))
    monkeypatch.setattr("shoal.engines.local.hosts.HostsFiles.write", lambda *_: Path("/no/such/hosts"))

    async def scenario(box: Box) -> None:
        web = box.python("web", "import time; time.sleep(1000)", port=None, calls=("api",))
        box.python("api", "")
        await box.ready(web)
        assert box.engine.names_mode == "env"
        assert "variables only from now on" in (await box.event(Warned)).message

    run(tmp_path, scenario)


def test_a_hosts_file_stays_while_a_replica_has_it(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        if box.engine.names_mode != "names":
            pytest.skip(box.engine.names_reason)
        job = box.python("job", "import time; time.sleep(1000)", port=None)
        first = await box.start(job)
        box.python("new", "", port=3999)
        second = await box.start(job, number=2)
        assert len(list(box.state.hosts.glob("job.*.hosts"))) == 2
        for replica, left in ((first, 1), (second, 0)):
            await box.engine.stop(replica, force=True)
            await box.exit(replica)
            await box.engine.forget(replica)
            assert len(list(box.state.hosts.glob("job.*.hosts"))) == left

    run(tmp_path, scenario)


def test_a_probe_that_fails_after_readiness_is_told_each_time(tmp_path: Path) -> None:
    async def scenario(box: Box) -> None:
        web = box.python("web", server())
        replica = await box.ready(web)
        os.kill(await box.pid(replica), signal.SIGSTOP)
        await box.failure(replica, "no answer in 1 s")
        os.kill(await box.pid(replica), signal.SIGCONT)
        box.events = [event for event in box.events if not isinstance(event, ProbeSucceeded)]
        await box.event(ProbeSucceeded, replica)
        assert [type(e) for e in box.events if isinstance(e, ReplicaExited)] == []
        assert any(isinstance(e, ProbeFailed) for e in box.events)

    run(tmp_path, scenario)
