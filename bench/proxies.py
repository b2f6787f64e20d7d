"""The same hop by others: each a minimal configuration that sends everything to one Unix socket, connections kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.envoy import leased_network

from bench.processes import process
from shoal.xds.envoy import find_envoy, remove_shared_memory

WORKERS = 2
"""Threads or processes of each, as Shoal's Envoy has."""
KEPT = 64
"""Idle connections to the upstream."""

_NGINX = """
daemon off; worker_processes {workers}; pid nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  upstream app {{ server unix:{socket}; keepalive {kept}; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  }} }}
}}
"""
_HAPROXY = """
global
  nbthread {workers}
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen app
  bind 127.0.0.1:{port}
  server app unix@{socket} pool-max-conn {kept}
"""
_CADDY = """
{{
  admin off
  auto_https off
  log {{
    level ERROR
  }}
}}
http://127.0.0.1:{port} {{
  reverse_proxy unix/{socket}
}}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    name: str
    url: str
    pid: int


@contextmanager
def nginx(port: int, socket: Path, folder: Path) -> Iterator[Proxy]:
    text = _NGINX.format(workers=WORKERS, port=port, socket=socket, kept=KEPT)
    (folder / "nginx.conf").write_text(text)
    # Started as root, its workers would run as www-data, which may not open the replica's socket.
    argv = ["nginx", "-p", folder, "-c", "nginx.conf", "-g", "user root;"]
    with process(argv, folder=folder) as running:
        yield Proxy("nginx", f"http://127.0.0.1:{port}/", running.pid)


@contextmanager
def haproxy(port: int, socket: Path, folder: Path) -> Iterator[Proxy]:
    (folder / "haproxy.cfg").write_text(_HAPROXY.format(workers=WORKERS, port=port, socket=socket, kept=KEPT))
    with process(["haproxy", "-q", "-db", "-f", "haproxy.cfg"], folder=folder) as running:
        yield Proxy("HAProxy", f"http://127.0.0.1:{port}/", running.pid)


@contextmanager
def caddy(port: int, socket: Path, folder: Path) -> Iterator[Proxy]:
    (folder / "Caddyfile").write_text(_CADDY.format(port=port, socket=socket))
    env = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "PATH": "/usr/bin:/bin"}
    argv = ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    with process(argv, folder=folder, env=env | {"GOMAXPROCS": str(WORKERS)}) as running:
        yield Proxy("Caddy", f"http://127.0.0.1:{port}/", running.pid)


@contextmanager
def bare_envoy(port: int, socket: Path, folder: Path) -> Iterator[Proxy]:
    """The same binary as Shoal's, with one listener, one route, one cluster, and every default."""
    (folder / "envoy.json").write_text(json.dumps(_envoy(port, socket)))
    with leased_network() as base_id:
        argv = [
            *(find_envoy(), "--config-path", folder / "envoy.json", "--base-id", str(base_id)),
            *("--concurrency", str(WORKERS), "--log-level", "error"),
        ]
        try:
            with process(argv, folder=folder) as running:
                yield Proxy("bare Envoy", f"http://127.0.0.1:{port}/", running.pid)
        finally:
            remove_shared_memory(base_id)


def _envoy(port: int, socket: Path) -> dict[str, object]:
    extensions = "type.googleapis.com/envoy.extensions.filters."
    router = {"name": "router", "typed_config": {"@type": extensions + "http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app"}}
    manager = {
        "@type": extensions + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]},
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    cluster = {
        "name": "app",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


PEERS = {"bare Envoy": bare_envoy, "nginx": nginx, "HAProxy": haproxy, "Caddy": caddy}
_PROGRAMS = {"nginx": "nginx", "HAProxy": "haproxy", "Caddy": "caddy"}


@contextmanager
def peers(ports: Iterator[int], socket: Path, folder: Path) -> Iterator[tuple[list[Proxy], dict[str, str]]]:
    """All that can run here, and why the others cannot."""
    running, missing = [], {"Traefik": "not available here (neither in Debian nor on PyPI)"}
    with ExitStack() as stack:
        for name, start in PEERS.items():
            program = _PROGRAMS.get(name)
            if program is not None and shutil.which(program) is None:
                missing[name] = "not available here"
                continue
            place = folder / name.replace(" ", "-").lower()
            place.mkdir()
            running.append(stack.enter_context(start(next(ports), socket, place)))
        yield running, missing
