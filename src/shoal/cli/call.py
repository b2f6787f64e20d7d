"""`shoal call`."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from pathlib import Path

import click

from shoal.cli.options import connect, file_option, shoal_command, state_folder
from shoal.cli.output import clean, emit, note
from shoal.errors import EngineError, NotFoundError, UsageError


@shoal_command(
    "call",
    ("shoal call product-service /products", "GET, and print the body"),
    ("""shoal call cart-service /carts -d '{"product_id": 1}'""", "POST JSON"),
    ("shoal call web /upload -X PUT -d @photo.jpg -H 'Content-Type: image/jpeg'", "send a file; @- is standard input"),
    ("shoal call web /healthz -i", "with the status and the headers"),
)
@click.argument("service")
@click.argument("path", default="/")
@click.option("-X", "--method", help="Default: GET, with --data POST.")
@click.option("-d", "--data", help="The body; @FILE: of a file, @-: of standard input.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="May be given again.")
@click.option("-i", "--include", is_flag=True, help="Print the status and the headers before the body.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, metavar="SECONDS"
)
@file_option()
def command(
    service: str,
    path: str,
    method: str | None,
    data: str | None,
    headers: tuple[str, ...],
    include: bool,
    timeout: float,
    file: Path | None,
    as_json: bool,
) -> None:
    """Send a request to SERVICE, through Envoy: with its retries, to one of its ready replicas.

    The body goes to stdout as it came. Exit status 1 when the answer is 400 or above.
    """
    known = {entry.name: entry for entry in connect(file).status().services}
    if service not in known:
        from shoal.spec.problems import did_you_mean

        hint = did_you_mean(service, list(known), otherwise=f"there are: {', '.join(known)}")
        raise NotFoundError(f"there is no service '{clean(service)}'", way_out=hint)
    if known[service].port is None:
        raise UsageError(f"{service} has no port, so it cannot be called", way_out="give it one in the app file")
    if known[service].protocol == "tcp":
        raise UsageError(f"{service} speaks TCP, and no HTTP", way_out="use its own client on the address of: shoal ps")
    body = _body(data)
    sent = _headers(headers)
    if body is not None and "content-type" not in {name.lower() for name in sent}:
        sent["content-type"] = "application/json" if _is_json(body) else "application/octet-stream"
    mesh = state_folder(file).mesh_socket
    path = path if path.startswith("/") else f"/{path}"
    connection = _MeshConnection(service, mesh, timeout)
    try:
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body=body, headers=sent)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
    except (http.client.InvalidURL, ValueError) as error:
        raise UsageError(f"this is no request: {clean(str(error))}") from None
    except (OSError, http.client.HTTPException) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        raise EngineError(f"{service} gave no answer: {clean(why)}", way_out=f"shoal explain {service}") from None
    if as_json:
        pairs = [[name.lower(), value] for name, value in answer.getheaders()]
        emit({"status": answer.status, "headers": pairs, "body": content.decode("utf-8", "replace")})
    else:
        _print(answer, content, include)
    if answer.status >= 400:
        if not include and not as_json:
            note(f"shoal: HTTP {answer.status} {clean(answer.reason)}")
        raise click.exceptions.Exit(1)


class _MeshConnection(http.client.HTTPConnection):
    """To Envoy's own socket, where the Host header says which service is meant."""

    def __init__(self, service: str, path: Path, timeout_s: float) -> None:
        super().__init__(service, timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def _print(answer: http.client.HTTPResponse, content: bytes, include: bool) -> None:
    lines = [f"HTTP/{answer.version // 10}.{answer.version % 10} {answer.status} {answer.reason}"]
    lines += [f"{name.lower()}: {value}" for name, value in answer.getheaders()]
    head = "".join(clean(line) + "\n" for line in lines) + "\n" if include else ""
    if sys.stdout.isatty():  # what a service says must not steer the terminal
        text = "\n".join(clean(line) for line in content.decode("utf-8", "replace").splitlines())
        content = (text + "\n").encode() if text else b""
    sys.stdout.flush()
    sys.stdout.buffer.write(head.encode("utf-8", "replace") + content)
    sys.stdout.buffer.flush()


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    if data == "@-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {data[1:]}: {error.strerror}") from None
    return os.fsencode(data)


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"'{clean(line)}' is no header", way_out="write it like 'Accept: text/html'")
        found[name.strip()] = value.strip()
    return found


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True
