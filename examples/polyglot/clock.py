"""clock: `GET /time` on its own, `GET /alarm` with a greeting, which it asks greeter for, and `GET /spoken`: the time
in words, which it asks speller for, by gRPC."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

# Neither asks the HTTP_PROXY of whoever started it: that knows nothing of these names.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
channel = grpc.insecure_channel("speller:50051", options=[("grpc.enable_http_proxy", 0)])
spell = channel.unary_unary(
    "/polyglot.Speller/Spell",
    request_serializer=Int32Value.SerializeToString,
    response_deserializer=StringValue.FromString,
)


def tell_time() -> dict[str, str]:
    return {"time": time.strftime("%H:%M")}


def alarm() -> dict[str, str]:
    with opener.open("http://greeter:3000/greeting", timeout=2) as answer:
        greeting = json.load(answer)["greeting"]
    return {"alarm": f"{greeting}! It is {time.strftime('%H:%M')}"}


def spoken() -> dict[str, str]:
    now = time.localtime()
    hour, minute = (spell(Int32Value(value=number), timeout=2).value for number in (now.tm_hour, now.tm_min))
    return {"spoken": f"{hour} hours and {minute} minutes"}


PATHS = {"/time": tell_time, "/alarm": alarm, "/spoken": spoken}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = PATHS.get(self.path)
        try:
            status, body = (404, {"error": "not found"}) if found is None else (200, found())
        except (OSError, grpc.RpcError) as error:
            status, body = 502, {"error": f"the other service does not answer: {error}"}
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "5000"))), Handler).serve_forever()
