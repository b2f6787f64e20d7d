"""What `shoal init` makes runs at once, by `shoal up`, and its own test passes. Packages come from the index (or uv's
cache); where neither has them, the template is skipped with what uv said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.plane import plane
from tests.support.port import free_port

pytestmark = pytest.mark.integration

TESTS = {
    "fastapi": ["python", "-m", "unittest"],
    "flask": ["python", "-m", "unittest"],
    "django": ["python", "manage.py", "test", "project"],
    "express": ["npm", "test"],
    "grpc": ["python", "-m", "unittest"],
}
NO_INDEX = ("Failed to fetch", "error sending request", "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "dns error")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("template", TESTS)
def test_a_new_app_runs_at_once_and_its_test_passes(template: str, tmp_path: Path) -> None:
    if template == "express" and shutil.which("npm") is None:
        pytest.skip("no npm here")
    folder, port = tmp_path / "shop", free_port()
    with plane(folder) as shoal:
        shoal.timeout_s = 200
        shoal.shoal("init", "--template", template, "--name", "web", "--port", str(port))
        up = shoal.shoal("up", "-d", "--timeout", "180", check=False)
        if up.returncode and any(word in up.stdout + up.stderr for word in NO_INDEX):
            pytest.skip(f"no package index here: {up.stderr[-300:]}")
        assert up.returncode == 0
        shoal.note_shared_memory()
        if template != "grpc":
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert json.loads(answer.read()) == {"message": "Hello from web"}
        else:
            said = shoal.shoal("exec", "web", "--", "python", "-c", CALL.replace("PORT", str(port)))
            assert said.stdout == "Hello Ann from web\n"
        shoal.shoal("exec", "web", "--", *TESTS[template])


CALL = """
import grpc
protos, services = grpc.protos_and_services('greeter.proto')
with grpc.insecure_channel('127.0.0.1:PORT') as channel:
    print(services.GreeterStub(channel).Hello(protos.HelloRequest(name='Ann'), timeout=10).message)
"""


def test_init_twice_is_refused_and_the_first_app_stays(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "shoal", "init", "--template", "flask", "--name", "web"]
    subprocess.run(line, cwd=tmp_path, check=True, timeout=30, capture_output=True)
    before = (tmp_path / "app.py").read_text()
    again = subprocess.run(line, cwd=tmp_path, check=False, timeout=30, capture_output=True)
    assert again.returncode == 3
    assert (tmp_path / "app.py").read_text() == before
