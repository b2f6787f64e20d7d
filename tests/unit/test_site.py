"""What a static site answers: types, validators, ranges, and what is nobody's business."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
from starlette.types import Message

from shoal.engines.local.site import accepts, application, is_hashed

FILES = {
    "index.html": "<p>home",
    "404.html": "<p>gone",
    "docs/index.html": "docs",
    "app.js": "x" * 100,
    "main.3f2a1b9c.js": "1",
    "logo.svg": "<svg/>",
    "app.wasm": "",
    ".env": "secret",
    ".git/config": "secret",
    ".well-known/security.txt": "contact",
    "empty/.keep": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "site/app.js.gz").write_bytes(gzip.compress(b"x" * 100))
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "site/link").symlink_to(tmp_path / "secret")
    return tmp_path / "site"


def ask(
    folder: Path, path: str, *, spa: bool = False, method: str = "GET", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    start: Message = {}
    body: list[bytes] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            body.append(message.get("body", b""))

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "scheme": "http", "server": ("site", 80), "client": None, "http_version": "1.1",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(application(folder, spa=spa)(scope, receive, send))
    return start["status"], b"".join(body), {name.decode(): value.decode() for name, value in start["headers"]}


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/", 200, "<p>home"),
        ("/docs/", 200, "docs"),
        ("/app.js", 200, "x" * 100),
        ("/.well-known/security.txt", 200, "contact"),
        ("/nothing", 404, "<p>gone"),
        ("/empty/", 404, "<p>gone"),
        ("/.env", 404, "Not Found"),
        ("/.git/config", 404, "Not Found"),
        ("/docs/../.env", 404, "Not Found"),
        ("/.well-known/../.env", 404, "Not Found"),
        ("/../secret", 404, "Not Found"),
        ("//etc/passwd", 404, "<p>gone"),
        ("/link", 404, "<p>gone"),
        ("/app.js/", 404, "Not Found"),
        ("/a\0b", 404, "Not Found"),
        ("/" + "z" * 300, 404, "Not Found"),
    ],
)
def test_a_path_is_a_file_of_the_folder_or_nothing(folder: Path, path: str, status: int, body: str) -> None:
    assert ask(folder, path)[:2] == (status, body.encode())


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/", 200, "<p>home"),
        ("/carts/7", 200, "<p>home"),
        ("/docs/", 200, "docs"),
        ("/missing.png", 404, "Not Found"),
        ("/.env", 404, "Not Found"),
        ("/link", 200, "<p>home"),
    ],
)
def test_a_single_page_app_answers_for_its_paths(folder: Path, path: str, status: int, body: str) -> None:
    assert ask(folder, path, spa=True)[:2] == (status, body.encode())


def test_a_folder_is_sent_to_its_slash_by_a_way_that_holds_behind_a_gateway(folder: Path) -> None:
    status, _, headers = ask(folder, "/docs")
    assert (status, headers["location"]) == (307, "docs/")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/logo.svg", "image/svg+xml"),
        ("/app.wasm", "application/wasm"),
    ],
)
def test_types_are_those_that_browsers_insist_on(folder: Path, path: str, kind: str) -> None:
    headers = ask(folder, path)[2]
    assert (headers["content-type"], headers["x-content-type-options"]) == (kind, "nosniff")


def test_what_is_unchanged_costs_a_304(folder: Path) -> None:
    _, _, headers = ask(folder, "/app.js")
    assert headers["cache-control"] == "no-cache"
    for asked in ({"if_none_match": headers["etag"]}, {"if_modified_since": headers["last-modified"]}):
        status, body, again = ask(folder, "/app.js", **asked)
        assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    (folder / "app.js").write_text("new")
    assert ask(folder, "/app.js", if_none_match=headers["etag"])[:2] == (200, b"new")


def test_ranges_and_head_are_understood(folder: Path) -> None:
    status, body, headers = ask(folder, "/app.js", range="bytes=0-3")
    assert (status, body, headers["content-range"]) == (206, b"xxxx", "bytes 0-3/100")
    assert ask(folder, "/app.js", range="bytes=500-")[0] == 416
    status, body, headers = ask(folder, "/app.js", method="HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", "100")
    assert ask(folder, "/app.js", method="POST")[0] == 405


def test_what_was_compressed_beforehand_is_sent_to_those_who_take_it(folder: Path) -> None:
    status, body, headers = ask(folder, "/app.js", accept_encoding="br, gzip")
    assert (status, gzip.decompress(body)) == (200, b"x" * 100)
    assert (headers["content-encoding"], headers["vary"]) == ("gzip", "accept-encoding")
    assert headers["content-type"] == "text/javascript; charset=utf-8"
    plain = ask(folder, "/app.js", accept_encoding="gzip;q=0")[2]
    assert "content-encoding" not in plain
    assert (plain["vary"], plain["etag"] != headers["etag"]) == ("accept-encoding", True)


@pytest.mark.parametrize(
    ("header", "taken"),
    [("gzip", True), ("GZIP;q=0.5, br", True), ("*", True), ("", False), ("gzip;q=0", False), ("br", False),
     ("*;q=0", False), ("gzip;q=x", True)],
)  # fmt: skip
def test_an_encoding_is_taken_when_it_is_named(header: str, taken: bool) -> None:
    assert accepts(header, "gzip") is taken


@pytest.mark.parametrize(
    ("path", "hashed"),
    [
        ("main.3f2a1b9c.js", True), ("static/js/main-0a1b2c3d4e5f.chunk.js", True), ("assets/index-Bx7tQ0dK.css", True),
        ("index-Bx7tQ0dK.css", False), ("jquery-3.7.1.min.js", False), ("report-20240101.pdf", False),
        ("my-component.js", False), ("assets/my-compone.js", False), ("app-version2.js", False), ("index.html", False),
    ],
)  # fmt: skip
def test_only_what_is_named_by_its_hash_is_kept_for_ever(path: str, hashed: bool) -> None:
    assert is_hashed(path) is hashed
