"""A compose project that knows nothing of Shoal: imported, started, called by name."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.support.plane import ECHO, plane
from tests.support.port import free_port

pytestmark = pytest.mark.integration

COMPOSE = """
services:
  front_end:
    build: ./front
    ports: ["127.0.0.1:{front}:{front}"]
    environment:
      BACKEND: http://back_end:{back}
    depends_on:
      back_end: {{condition: service_healthy}}
  back_end:
    build: {{context: ./back, target: prod}}
    expose: ["{back}"]
    env_file: back/settings.env
    healthcheck: {{test: ["CMD", "curl", "-f", "http://localhost:{back}/up"], interval: 5s}}
"""
FRONT_DOCKERFILE = """
FROM python:3.12-slim
WORKDIR /srv
COPY . /srv
EXPOSE {front}
CMD ["python", "/srv/server.py", "--port", "{front}"]
"""
FRONT = """
import os, sys, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        with urllib.request.urlopen(os.environ["BACKEND"] + "/asked") as answer:
            body = answer.read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""
BACK_DOCKERFILE = """
FROM python:3.12 AS dev
WORKDIR /code
COPY requirements.txt .
COPY src ./src
CMD uvicorn src.echo:app --reload
FROM dev AS prod
CMD ["uvicorn", "src.echo:app", "--host", "0.0.0.0", "--port", "{back}"]
"""


def test_a_compose_project_runs_after_its_import(tmp_path: Path) -> None:
    front, back = free_port(), free_port()
    files = {
        "docker-compose.yml": COMPOSE,
        "front/Dockerfile": FRONT_DOCKERFILE,
        "front/server.py": FRONT,
        "back/Dockerfile": BACK_DOCKERFILE,
        "back/settings.env": "MODE=test\nPORT={back}\n",
        "back/requirements.txt": "",
        "back/src/__init__.py": "",
        "back/src/echo.py": ECHO,
    }
    folder = tmp_path / "app"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(front=front, back=back) if not name.endswith(".py") else text)
    with plane(folder) as shoal:
        report = json.loads(shoal.shoal("import", "--json").stdout)
        assert [row["becomes"] for row in report["services"]] == [
            f"command, port {front}",
            f"run src.echo:app, port {back}",
        ]
        shoal.up()
        with urllib.request.urlopen(f"http://127.0.0.1:{front}/", timeout=10) as answer:
            told = json.load(answer)
        assert (told["service"], told["path"]) == ("back-end", "/asked")
        shoal.shoal("scale", "front-end", "2")
        shoal.eventually(
            lambda: sum(replica["state"] == "ready" for replica in shoal.replicas("front-end")) == 2, "two front ends"
        )
        shoal.down()
        shoal.assert_nothing_left()
