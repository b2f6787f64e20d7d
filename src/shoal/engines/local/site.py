"""One replica of a static site: `python -m shoal.engines.local.site FOLDER --socket PATH [--spa]`.

Starlette serves the files, with ETag, Last-Modified, ranges and no way out of the folder. Added to that: no hidden
files, `index.html` for single-page apps, what may be cached for how long, and what a build has compressed beforehand.
"""

from __future__ import annotations

import argparse
import mimetypes
import os
import re
import stat
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

INDEX = "index.html"
FOR_EVER = "public, max-age=31536000, immutable"
ASK_EACH_TIME = "no-cache"
"""It may be kept, and is asked for by its ETag: a changed file is seen at once, and an unchanged one costs a 304."""
ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
"""Best first."""
STOP_WITHIN_S = 9
_TYPES = {
    ".avif": "image/avif", ".cjs": "text/javascript", ".css": "text/css", ".htm": "text/html", ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon", ".js": "text/javascript", ".json": "application/json",
    ".map": "application/json", ".md": "text/markdown", ".mjs": "text/javascript", ".svg": "image/svg+xml",
    ".txt": "text/plain", ".wasm": "application/wasm", ".webmanifest": "application/manifest+json",
    ".webp": "image/webp", ".woff": "font/woff", ".woff2": "font/woff2", ".xml": "application/xml",
}  # fmt: skip
"""What browsers insist on, whatever the machine's own table says."""
_HEX = re.compile(r"[.-](?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,64}\.[\w.]+\Z")
_MIXED = re.compile(
    r"(?:^|/)assets/(?:[^/]+/)*[^/]+[.-](?=[\w-]*[0-9])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{8}\.[\w.]+\Z"
)


def is_hashed(path: str) -> bool:
    """Whether a file's name has a hash of its content, as bundlers write it: `main.3f2a1b9c.js`,
    `assets/app-Bx7tQ0dK.css`. In doubt not."""
    return _HEX.search(path) is not None or _MIXED.search(path) is not None


def is_hidden(path: str) -> bool:
    """`.env`, `.git/config`; `.well-known` is there for everybody."""
    parts = [part for part in path.split("/") if part != "."]
    return any(part.startswith(".") for part in (parts[1:] if parts[:1] == [".well-known"] else parts))


class Site(StaticFiles):
    """The ASGI application for a folder. RuntimeError: there is no such folder."""

    def __init__(self, folder: str | os.PathLike[str], *, spa: bool = False) -> None:
        super().__init__(directory=folder, html=True)
        self._spa = spa

    async def get_response(self, path: str, scope: Scope) -> Response:
        """`path` is relative and has no `..`; `.` is the folder itself."""
        if is_hidden(path):
            raise HTTPException(404)
        try:
            found = await self._found(path, scope)
            if found is not None:
                return found
            return await super().get_response(path, scope)
        except (OSError, ValueError):  # closed to us, a name too long, a zero byte in it
            raise HTTPException(404) from None
        except HTTPException as error:
            # A missing picture is a 404, or an app would get its own page in its place and not know what it has.
            if error.status_code == 404 and self._spa and "." not in path.rpartition("/")[2].lstrip("."):
                return await super().get_response(INDEX, scope)
            raise HTTPException(404 if error.status_code == 401 else error.status_code, headers=error.headers) from None

    async def _found(self, path: str, scope: Scope) -> Response | None:
        """What Starlette would do otherwise: `docs` is sent to `docs/`, by a way that holds behind a gateway, too,
        which takes the path's beginning away; and with `spa` there is no 404.html."""
        if scope["method"] not in ("GET", "HEAD"):
            return None
        _, status = await anyio.to_thread.run_sync(self.lookup_path, path)
        if status is None:
            if self._spa:
                raise HTTPException(404)
            return None
        name = path.rpartition("/")[2]
        if stat.S_ISDIR(status.st_mode) and path != "." and not scope["path"].endswith("/"):
            index = await anyio.to_thread.run_sync(self.lookup_path, f"{path}/{INDEX}")
            if index[1] is None:
                raise HTTPException(404)
            return Response(status_code=307, headers={"location": f"{name}/", "cache-control": ASK_EACH_TIME})
        if stat.S_ISREG(status.st_mode) and scope["path"].endswith("/"):
            raise HTTPException(404)
        return None

    def file_response(
        self, full_path: Any, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        asked = Headers(scope=scope)
        path = str(full_path)
        headers = {
            "cache-control": FOR_EVER if is_hashed(path) else ASK_EACH_TIME,
            "x-content-type-options": "nosniff",
        }
        kind = _TYPES.get(Path(path).suffix.lower()) or mimetypes.guess_type(path)[0] or "application/octet-stream"
        there = [(name, path + suffix) for name, suffix in ENCODINGS if os.path.isfile(path + suffix)]  # noqa: PTH113
        if there:
            headers["vary"] = "accept-encoding"
        for name, compressed in there:
            if accepts(asked.get("accept-encoding", ""), name):
                headers["content-encoding"] = name
                path, stat_result = compressed, os.stat(compressed)  # noqa: PTH116
                break
        response = FileResponse(
            path, status_code=status_code, headers=headers, media_type=kind, stat_result=stat_result
        )
        return NotModifiedResponse(response.headers) if self.is_not_modified(response.headers, asked) else response


def accepts(header: str, encoding: str) -> bool:
    """Whether `accept-encoding` takes it: named, or `*`, and not with `q=0`."""
    weights: MutableMapping[str, float] = {}
    for part in header.lower().split(","):
        name, _, rest = part.strip().partition(";")
        found = re.fullmatch(r"\s*q=([0-9.]+)\s*", rest)
        try:
            weights[name.strip()] = float(found[1]) if found else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    return weights.get(encoding, weights.get("*", 0.0)) > 0


def application(folder: str | os.PathLike[str], *, spa: bool) -> ASGIApp:
    """With plain words for what is not there."""
    return ExceptionMiddleware(_Http(Site(folder, spa=spa)))


class _Http:
    """A site has no lifespan and no WebSockets."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            await self._site(scope, receive, send)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="shoal-site", description="Serves one replica of a static site.")
    parser.add_argument("folder")
    parser.add_argument("--socket", required=True, help="listen on this Unix socket")
    parser.add_argument("--spa", action="store_true")
    options = parser.parse_args(argv)
    try:
        served = application(options.folder, spa=options.spa)
    except RuntimeError:
        sys.stderr.write(f"shoal: {options.folder} is no folder; build the site first\n")
        return 1
    uvicorn.run(
        served, uds=options.socket, log_level="warning", access_log=False, lifespan="off", server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=STOP_WITHIN_S, timeout_keep_alive=75,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
