"""The local engine as root and as a user without any rights: names, and who listens where, work for both."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.engines.local.environments import Environment
from shoal.engines.local.overlays import Overlays
from shoal.model.event import ReplicaStarted
from shoal.model.replica import TcpAddress
from tests.integration.engine_box import Box, engine_box
from tests.support.port import free_port

pytestmark = pytest.mark.integration

NOBODY = 65534
REPOSITORY = Path(__file__).parents[2]
WEB = """
import os, socket

def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/uid":
        return [str(os.getuid()).encode()]
    return [socket.gethostbyname("api").encode()]
"""
ELSEWHERE = "import http.server; http.server.HTTPServer(('127.0.0.1', PORT), None).serve_forever()"


async def scenario(box: Box) -> None:
    """What the child process below does, as its user."""
    assert box.engine.names_mode == "names", box.engine.names_reason
    box.write("web.py", WEB)
    web = box.app("web", calls=("api",))
    port = free_port()
    api = box.python("api", ELSEWHERE.replace("PORT", str(port)))
    replica = await box.ready(web)
    assert await box.get(replica, "/uid") == str(os.getuid())
    assert await box.get(replica) == box.launch(web).edges.address("web", "api")
    # Whose socket it is can be seen although the replica lives in a user namespace of its own.
    other = await box.start(api)
    address = (await box.event(ReplicaStarted, other)).address
    assert isinstance(address, TcpAddress)
    await box.failure(other, f"listens on 127.0.0.1:{port}, not on $PORT={address.port}")
    assert await box.engine.stop(other, force=False)
    await box.exit(other)
    assert await box.engine.stop(replica, force=False)
    assert (await box.exit(replica)).code == 0


def as_child(folder: str) -> None:
    async def main() -> None:
        async with engine_box(Path(folder)) as box:
            await scenario(box)

    asyncio.run(main())
    print("all well")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Below /tmp, where every user may come; with the overlay in it, as uv's cache is not everybody's."""
    with tempfile.TemporaryDirectory(prefix="shoal-test-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        app = path / "app"

        async def say(message: str) -> None:
            pass

        app.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(app / ".cache"))
            asyncio.run(Overlays(path / "no").prepare(Environment(python=Path(sys.executable), folder=None), say))
        yield app


@pytest.mark.parametrize("uid", [0, NOBODY])
def test_names_work_and_listeners_are_known(uid: int, folder: Path) -> None:
    if os.getuid() not in (0, uid):
        pytest.skip("only root can become somebody else")
    if os.getuid() != uid:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)
    who: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if os.getuid() != uid else {}
    python = python_for(who)
    if python is None:
        pytest.skip(f"no Python {sys.version_info.major}.{sys.version_info.minor} that user {uid} may run")
    command = [python, "-c", f"from {__name__} import as_child; as_child({str(folder)!r})"]
    packages = [part for part in sys.path if part.endswith("site-packages")]
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), *packages]),
    }
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=90, **who)
    assert done.stdout == "all well\n", done.stderr


def python_for(who: dict[str, Any]) -> str | None:
    """Ours, or another of the same version when ours is in a folder that is closed to the user."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            subprocess.run([python, "-c", ""], check=True, capture_output=True, cwd="/", **who)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return None
