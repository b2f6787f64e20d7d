"""Counts. It reads its configuration where such programs do, and keeps the number where they keep such things."""

from __future__ import annotations

import fcntl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GREETING = Path("/etc/visits/visits.conf").read_text().partition("=")[2].strip()
PORT = int(Path("/etc/visits/listen.conf").read_text())
COUNT = Path("/var/lib/visits/count")


def count() -> int:
    """One more, whichever replica counts."""
    with COUNT.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read() or 0) + 1
        file.truncate(0)
        file.write(str(number))
        return number


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = (GREETING % count() if self.path == "/visit" else "ok").encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
