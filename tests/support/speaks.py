"""A service in one file, run as a program: `python speaks.py http|grpc|lines`. It listens on $PORT, and with more
arguments (`http grpc:PORT_GRPC`) on the ports in these variables as well.

http    HTTP/1.1 and nothing else: says what it received; `/events?n=5&every=0.1` server-sent events; `/ws` a WebSocket
        that echoes; `/slow?s=2` answers after that long
grpc    `demo.Echo`: `Unary`, `Stream` (request: how many), `Bidi`, `Slow`; and `grpc.health.v1.Health`
lines   a line in, a line out, as Redis's inline commands: PING, ID, ECHO x, SET k v, GET k
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import sys
import time
from urllib.parse import parse_qs, urlsplit

ME = os.environ.get("SHOAL_REPLICA", "me")
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await answer(reader, writer):
            pass
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, version = head[0].split(" ", 2)
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        writer.write(b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\n\r\n")
        return False
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    if url.path == "/ws":
        await websocket(reader, writer, headers)
        return False
    if url.path == "/events":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for number in range(int(asked["n"])):
            writer.write(f"data: {number}\n\n".encode())
            await writer.drain()
            await asyncio.sleep(float(asked["every"]))
        return False
    if url.path == "/slow":
        await asyncio.sleep(float(asked["s"]))
    said = {
        "replica": ME,
        "pid": os.getpid(),
        "method": method,
        "path": target,
        "version": version,
        "headers": headers,
        "body": body.decode(),
    }
    text = json.dumps(said).encode()
    writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n".encode())
    writer.write(text)
    await writer.drain()
    return True


async def websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
    accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + MAGIC).digest()).decode()
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        f"sec-websocket-accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, length = await reader.readexactly(2)
        size = length & 0x7F
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        mask = await reader.readexactly(4)
        data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(await reader.readexactly(size)))
        if first & 0x0F == 8:
            writer.write(b"\x88\x00")
            return
        said = f"{ME}:".encode() + data
        writer.write(bytes([0x81, 126]) + len(said).to_bytes(2, "big") + said)
        await writer.drain()


async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := (await reader.readline()).decode().split():
            match line:
                case ["PING"]:
                    said = "+PONG"
                case ["ID"]:
                    said = f"+{ME}"
                case ["ECHO", *words]:
                    said = f"+{' '.join(words)}"
                case ["SET", key, value]:
                    KEPT[key] = value
                    said = "+OK"
                case ["GET", key]:
                    said = f"+{KEPT[key]}" if key in KEPT else "$-1"
                case _:
                    said = f"-ERR unknown command {line[0]!r}"
            writer.write(f"{said}\r\n".encode())
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


KEPT: dict[str, str] = {}


def grpc(port: int) -> None:
    from concurrent import futures

    import grpc as g

    def stream(request: bytes, context: object) -> object:
        for number in range(int(request)):
            yield f"{ME}:{number}".encode()
            time.sleep(0.05)

    def bidi(requests: object, context: object) -> object:
        for request in requests:  # type: ignore[attr-defined]
            yield f"{ME}:".encode() + request

    def slow(request: bytes, context: object) -> bytes:
        time.sleep(float(request))
        return b"done"

    echo = {
        "Unary": g.unary_unary_rpc_method_handler(lambda request, context: f"{ME}:".encode() + request),
        "Stream": g.unary_stream_rpc_method_handler(stream),
        "Bidi": g.stream_stream_rpc_method_handler(bidi),
        "Slow": g.unary_unary_rpc_method_handler(slow),
    }
    health = {"Check": g.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")}
    server = g.server(futures.ThreadPoolExecutor(8))
    handlers = [g.method_handlers_generic_handler("demo.Echo", echo)]
    if "NO_HEALTH" not in os.environ:
        handlers.append(g.method_handlers_generic_handler("grpc.health.v1.Health", health))
    server.add_generic_rpc_handlers(tuple(handlers))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    RUNNING.append(server)


RUNNING: list[object] = []


async def main(arguments: list[str]) -> None:
    for argument in arguments:
        kind, _, variable = argument.partition(":")
        port = int(os.environ[variable or "PORT"])
        if kind == "grpc":
            grpc(port)
        else:
            RUNNING.append(await asyncio.start_server({"http": http, "lines": lines}[kind], "127.0.0.1", port))
        print(f"speaks {kind} on {port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1:]))
    except KeyboardInterrupt:
        pass
