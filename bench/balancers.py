"""The same app of three replicas behind Shoal, nginx and HAProxy, each as a careful operator sets it up.

Shoal starts and restarts its replicas. Those behind nginx and HAProxy are started by the bench (`bench.replicas`).
"""

from __future__ import annotations

import csv
import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.support.plane import Plane, plane
from tests.support.port import free_port

from bench.apps import answers
from bench.processes import process, wait_until
from bench.replicas import REPLICAS, SERVER, Replicas

DRAIN_S = 0.3
"""Between taking a replica out and ending it, as Shoal waits: Envoy, nginx and HAProxy finish what they had sent."""
NGINX = """
daemon off; worker_processes 2; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  log_format attempts '$upstream_status';
  access_log attempts.log attempts;
  upstream app {{
    zone app 64k;
    {servers}
    keepalive 32;
  }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_connect_timeout 1s; proxy_read_timeout 5s; proxy_next_upstream_tries 3;
  server {{
    listen 127.0.0.1:{port};
    error_page 418 = @keyed;
    location / {{
      if ($http_idempotency_key) {{ return 418; }}
      proxy_pass http://app; proxy_next_upstream error timeout http_502 http_503 http_504;
    }}
    location @keyed {{
      proxy_pass http://app; proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent;
    }}
  }}
}}
"""
"""Of a POST, nginx by itself repeats none that was sent, or each; the named location tells those with a key apart."""
HAPROXY = """
global
  nbthread 2
  stats socket {folder}/stats level admin
defaults
  mode http
  http-reuse safe
  option redispatch
  retries 3
  retry-on conn-failure empty-response response-timeout 503
  timeout connect 1s
  timeout client 60s
  timeout server 5s
  timeout check 1s
listen app
  bind 127.0.0.1:{port}
  http-request disable-l7-retry if METH_POST !{{ req.hdr(idempotency-key) -m found }}
  option httpchk GET /
  default-server check inter 1s fall 3 rise 2
{servers}
"""


class Balanced(Protocol):
    """An app of three replicas, ready to be disturbed."""

    name: str
    url: str

    def pids(self) -> list[int]:
        """Of its replicas."""

    def heal(self, pid: int) -> None:
        """Replaces a replica that was killed, where nobody else does."""

    def vain(self) -> int:
        """How many attempts so far got no answer from the replica that they were sent to, as the proxy counts them."""

    def roll(self) -> None:
        """Replaces all replicas, one after the other, as its documentation advises."""


class Shoal:
    name = "Shoal"
    _COUNTERS = "upstream_cx_connect_fail|upstream_rq_retry|upstream_rq_rx_reset|upstream_rq_per_try_timeout"

    def __init__(self, shoal: Plane, port: int) -> None:
        self._shoal = shoal
        self._versions = 0
        self.url = f"http://127.0.0.1:{port}"

    def pids(self) -> list[int]:
        return [replica["pid"] for replica in self._shoal.replicas("web") if replica["pid"]]

    def heal(self, pid: int) -> None:
        pass

    def vain(self) -> int:
        link = socket.socket(socket.AF_UNIX)
        connection = http.client.HTTPConnection("localhost", timeout=5)
        try:
            link.settimeout(5)
            link.connect(str(self._shoal.run / "envoy-admin.sock"))
            connection.sock = link
            connection.request("GET", f"/stats?format=json&usedonly&filter=^cluster\\..*\\.({self._COUNTERS})$")
            told = json.loads(connection.getresponse().read())
        finally:
            connection.close()
            link.close()
        return sum(counter.get("value", 0) for counter in told["stats"])

    def roll(self) -> None:
        """By `shoal restart`. RuntimeError: it failed."""
        self._command("restart", "web")

    def deploy(self) -> None:
        """Another version of the server, by `shoal deploy`. RuntimeError: it failed."""
        self._versions += 1
        (self._shoal.folder / "server.py").write_text(f"{SERVER}# version {self._versions}\n")
        self._command("deploy", "web")

    def settled(self) -> bool:
        """Whether three replicas serve, and nothing is under way."""
        [service] = self._shoal.status()["services"]
        return bool(service["ready"] == REPLICAS and len(service["replicas"]) == REPLICAS)

    def _command(self, *arguments: str) -> None:
        done = self._shoal.shoal(*arguments, check=False)
        if done.returncode:
            raise RuntimeError(f"shoal {' '.join(arguments)}: {(done.stdout + done.stderr).strip()[-300:]}")


class Nginx:
    """Without checks of its own: those are in nginx Plus. It learns of a dead replica from requests."""

    name = "nginx"

    def __init__(self, folder: Path, replicas: Replicas, port: int) -> None:
        self._folder, self._replicas, self._port = folder, replicas, port
        self.url = f"http://127.0.0.1:{port}"
        self.master = 0
        self.pids, self.heal = replicas.pids, replicas.heal

    def write(self, down: int | None = None) -> None:
        servers = "\n    ".join(
            f"server 127.0.0.1:{port} " + ("down;" if index == down else "max_fails=1 fail_timeout=2s;")
            for index, port in enumerate(self._replicas.ports)
        )
        (self._folder / "nginx.conf").write_text(NGINX.format(servers=servers, port=self._port))

    def vain(self) -> int:
        """A line for each request, with the status of each attempt: `502, 200`."""
        return (self._folder / "attempts.log").read_bytes().count(b"50")

    def roll(self) -> None:
        """Out of the configuration, reload, replace, into it again, reload."""
        for index in range(REPLICAS):
            self._reload(index)
            time.sleep(DRAIN_S)
            self._replicas.replace(index)
        self._reload(None)

    def _reload(self, down: int | None) -> None:
        self.write(down)
        before = _children(self.master)
        os.kill(self.master, signal.SIGHUP)
        wait_until(lambda: _children(self.master) - before, "nginx has new workers")


class Haproxy:
    name = "HAProxy"

    def __init__(self, folder: Path, replicas: Replicas, port: int) -> None:
        self._folder, self._replicas = folder, replicas
        self.url = f"http://127.0.0.1:{port}"
        self.pids, self.heal = replicas.pids, replicas.heal
        servers = "\n".join(f"  server s{index} 127.0.0.1:{port}" for index, port in enumerate(replicas.ports))
        (folder / "haproxy.cfg").write_text(HAPROXY.format(folder=folder, port=port, servers=servers))

    def vain(self) -> int:
        return sum(
            int(row[key] or 0)
            for row in self._rows()
            if row["svname"] != "FRONTEND"
            for key in ("econ", "eresp", "wretr", "wredis")
        )

    def roll(self) -> None:
        """`disable server` on its socket, replace, `enable server`, until its check has seen it."""
        for index in range(REPLICAS):
            self._say(f"disable server app/s{index}")
            time.sleep(DRAIN_S)
            self._replicas.replace(index)
            self._say(f"enable server app/s{index}")
            wait_until(partial(self._is_up, f"s{index}"), f"HAProxy finds s{index} up")

    def _is_up(self, server: str) -> bool:
        return any(row["svname"] == server and row["status"].split() == ["UP"] for row in self._rows())

    def _rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader(self._say("show stat").removeprefix("# ").splitlines()))

    def _say(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(self._folder / "stats"))
            link.sendall(f"{command}\n".encode())
            with link.makefile() as said:
                return said.read()


def _children(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@contextmanager
def shoal(folder: Path) -> Iterator[Balanced]:
    port = free_port()
    command = json.dumps([sys.executable, "server.py"])
    app = f"app: failover\nservices:\n  web: {{command: {command}, port: {port}, replicas: {REPLICAS}}}\n"
    with plane(folder / "app", files={"shoal.yaml": app, "server.py": SERVER}, quiet=True) as made:
        made.up()
        yield Shoal(made, port)


@contextmanager
def _peer(folder: Path, start: Callable[[Path, Replicas, int, ExitStack], Balanced]) -> Iterator[Balanced]:
    (folder / "server.py").write_text(SERVER)
    replicas, port = Replicas(folder), free_port()
    with ExitStack() as stack:
        stack.callback(replicas.end_all)
        replicas.start_all()
        made = start(folder, replicas, port, stack)
        wait_until(partial(answers, port), f"{made.name} answers")
        yield made


@contextmanager
def nginx(folder: Path) -> Iterator[Balanced]:
    with _peer(folder, _start_nginx) as made:
        yield made


@contextmanager
def haproxy(folder: Path) -> Iterator[Balanced]:
    with _peer(folder, _start_haproxy) as made:
        yield made


def _start_nginx(folder: Path, replicas: Replicas, port: int, stack: ExitStack) -> Balanced:
    made = Nginx(folder, replicas, port)
    made.write()
    # Started as root, its workers would run as www-data, which may not write into this folder.
    argv = ["nginx", "-p", folder, "-c", "nginx.conf", *(["-g", "user root;"] if os.geteuid() == 0 else [])]
    made.master = stack.enter_context(process(argv, folder=folder)).pid
    return made


def _start_haproxy(folder: Path, replicas: Replicas, port: int, stack: ExitStack) -> Balanced:
    made = Haproxy(folder, replicas, port)
    stack.enter_context(process(["haproxy", "-q", "-db", "-f", "haproxy.cfg"], folder=folder))
    return made


PEERS: Mapping[str, tuple[str, Callable[[Path], object]]] = {"nginx": ("nginx", nginx), "HAProxy": ("haproxy", haproxy)}
"""Name -> its program, and what sets it up."""
