"""The standard health service of gRPC, asked once.

grpcio is here already for Envoy's stream. A channel for each question costs 1 ms of CPU; a kept one costs a quarter of
that, and reconnects when its own back-off says so: a replica would be ready seconds before anybody noticed.
"""

from __future__ import annotations

import os

# gRPC's fork handlers stall the engine's child processes; it reads this at import.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import grpc.aio

from shoal.model.replica import Address, UnixAddress

CHECK = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""HealthCheckResponse{status: SERVING}."""
_WORDS = {b"": "UNKNOWN", b"\x08\x02": "NOT_SERVING", b"\x08\x03": "SERVICE_UNKNOWN"}
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else a failed connection's back-off holds up the next question too
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)
_SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
"""What the client itself says when nobody answers."""


async def why_not_ready(address: Address, *, strict: bool, timeout_s: float) -> str:
    """In words; empty: it is ready. `strict`: only SERVING will do; else a server without the health service is ready
    when it answers in gRPC at all. TimeoutError, ConnectionRefusedError, FileNotFoundError: nobody answered."""
    target = f"unix:{address.path}" if isinstance(address, UnixAddress) else f"{address.host}:{address.port}"
    async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
        try:
            answer = await channel.unary_unary(CHECK)(b"", timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return _explained(error.code(), error.details() or "", strict=strict)
    if answer == _SERVING:
        return ""
    return f"gRPC health says {_WORDS.get(answer, 'something unknown')}"


def _explained(code: grpc.StatusCode, details: str, *, strict: bool) -> str:
    if code not in _SILENT:
        return f"gRPC health answers {code.name}" if strict else ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise TimeoutError
    if "Connection refused" in details:
        raise ConnectionRefusedError
    if "No such file" in details:
        raise FileNotFoundError
    if "http1.x" in details:
        return "speaks HTTP/1.1, not gRPC; say protocol: http"
    return f"no answer in gRPC: {details.splitlines()[0][:120] if details else code.name}"
