"""Apps that a benchmark runs in a temporary folder."""

from __future__ import annotations

import http.client
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RAW_ASGI = '''
"""The least an ASGI application can be: what is measured is what stands in front of it."""

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"Hello, World!"})
'''


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Its name is short: paths of sockets are limited."""
    folder = Path(tempfile.mkdtemp(prefix="shoal-bench-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers(port: int, path: str = "/") -> bool:
    """Whether it answers 200 there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
