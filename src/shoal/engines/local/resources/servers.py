"""NATS, Redis and MongoDB: what each is started with. Passwords are in files of their own, 0600, never in arguments."""

from __future__ import annotations

import json
import re
from pathlib import Path

from shoal import files
from shoal.engines.local.resources import programs
from shoal.engines.local.resources.place import Place
from shoal.errors import EngineError
from shoal.model.resources import Kind, Resource

HOST = "127.0.0.1"
USER = "shoal"
_IMAGES_DATA = {Kind.REDIS: "/data", Kind.MONGODB: "/data/db"}


def nats(place: Place, port: int, monitoring: int) -> list[str]:
    """JetStream keeps what it confirmed through a loss of power (`sync_interval: always`). EngineError."""
    account = f"{{user: {USER}, password: {json.dumps(place.password())}}}"
    lines = [
        f"listen: {HOST}:{port}",
        f"http: {HOST}:{monitoring}",
        f"server_name: {json.dumps(_plain(place.own.parent.parent.parent.name))}",
        f"jetstream {{ store_dir: {json.dumps(str(place.data))}, sync_interval: always }}",
        f"authorization {{ users: [{account}] }}",
        "lame_duck_duration: 30s",
    ]
    config = _written(place.own / "nats.conf", "\n".join(lines) + "\n")
    return [str(programs.nats_server()), "-c", str(config)]


def redis(place: Place, port: int, resource: Resource) -> list[str]:
    lines = [f"requirepass {place.password()}", "appendonly yes", "save 60 1"]
    if resource.image:
        # The image's own user must be able to read it.
        config = _written(place.own / "redis.conf", "\n".join([*lines, "dir /data"]) + "\n", mode=0o644)
        mounts = ["-v", f"{config}:/etc/redis.conf:ro"]
        return _container(place, port, resource, mounts, ["redis-server", "/etc/redis.conf"])
    lines += [f"bind {HOST}", f"port {port}", f"dir {json.dumps(str(place.data))}", "daemonize no"]
    config = _written(place.own / "redis.conf", "\n".join(lines) + "\n")
    return [str(programs.server(Kind.REDIS)), str(config)]


def mongodb(place: Place, port: int, resource: Resource) -> list[str]:
    """Without accounts: it listens on this machine alone, as MongoDB does out of the box."""
    if resource.image:
        return _container(place, port, resource, [], [])
    line = [str(programs.server(Kind.MONGODB)), "--dbpath", str(place.data), "--port", str(port)]
    return [*line, "--bind_ip", HOST, "--nounixsocket"]


def _container(place: Place, port: int, resource: Resource, mounts: list[str], command: list[str]) -> list[str]:
    name = f"shoal-{_plain(place.own.parent.parent.parent.name)}-{place.own.name}-{port}"
    line = [str(programs.containers()), "run", "--rm", "--replace", "--name", name] if _is_podman() else [
        str(programs.containers()), "run", "--rm", "--name", name,
    ]  # fmt: skip
    line += ["-p", f"{HOST}:{port}:{resource.kind.port}", "-v", f"{place.data}:{_IMAGES_DATA[resource.kind]}"]
    return [*line, *mounts, resource.image, *command]


def _plain(name: str) -> str:
    """A folder's name as that of a server."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "shoal"


def _is_podman() -> bool:
    return programs.containers().name == "podman"


def _written(path: Path, text: str, *, mode: int = 0o600) -> Path:
    """EngineError."""
    try:
        files.write(path, text, mode=mode)
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}") from error
    return path
