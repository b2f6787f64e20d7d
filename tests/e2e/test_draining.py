"""Programs that know nothing of a graceful end, with slow requests under way: restarted, and taken down."""

from __future__ import annotations

import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.plane import plane
from tests.support.port import free_port
from tests.support.prober import prober

pytestmark = pytest.mark.integration

SERVER = """
import os, sys, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Slow(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            while True:
                self.wfile.write(b"data: x\\n\\n")
                time.sleep(0.1)
        if self.path.startswith("/slow"):
            time.sleep(float(self.path.removeprefix("/slow") or 0.5))
        body = b"done"
        if self.path == "/chain":
            print("chain begins", flush=True)
            time.sleep(1.0)
            body = urllib.request.urlopen(os.environ["BACK_URL"] + "/slow1", timeout=20).read()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_): pass

ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Slow).serve_forever()
"""


def streams(url: str, opened: threading.Event) -> int:
    """How often a client of the event stream had to connect, until the second connection stands."""
    times = 0
    while True:
        with urllib.request.urlopen(url + "/stream", timeout=30) as stream:
            times += 1
            stream.readline()
            if times > 1:
                return times
            opened.set()
            while stream.readline():
                pass


def test_a_program_that_dies_of_sigterm_loses_no_request_in_restart_and_down(tmp_path: Path) -> None:
    front, back = free_port(), free_port()
    app = f"""
defaults: {{health: /, drain: 3s}}
services:
  front: {{command: ["{sys.executable}", server.py], port: {front}, calls: [back]}}
  back: {{command: ["{sys.executable}", server.py], port: {back}, drain: 1s}}
"""
    url = f"http://127.0.0.1:{front}"
    with plane(tmp_path / "app", files={"shoal.yaml": app, "server.py": SERVER}) as shoal, ThreadPoolExecutor() as pool:
        shoal.up()
        with prober(url, get="/slow0.5", post="/slow0.5") as probe:
            shoal.shoal("restart", "front")
            probe.wait_for_answers(5)
        probe.assert_nothing_lost()

        # What never ends gets the time of `drain`, and then comes to the new replica.
        opened = threading.Event()
        client = pool.submit(streams, f"http://127.0.0.1:{back}", opened)
        assert opened.wait(30)
        shoal.shoal("restart", "back")
        assert client.result(timeout=30) == 2
        stops = [e["message"] for e in shoal.events() if e["kind"] == "StopSent" and e["subject"] == "back-r1"]
        assert stops == ["SIGTERM sent: drained for 1 s: 1 request under way"]

        # Half of the chain comes after `down`: the service that it needs is still there.
        chain = pool.submit(lambda: urllib.request.urlopen(url + "/chain", timeout=30).read())
        shoal.eventually(lambda: "chain begins" in shoal.log_text("front", "front-r2"), "a chain under way")
        shoal.down()
        assert chain.result(timeout=30) == b"done"
