"""What in this Python environment would harm the messages that we send to Envoy."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.internal import api_implementation


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    message: str
    way_out: str


def flaws(
    *, backend: Callable[[], str] = api_implementation.Type, installed: Callable[[str], object] | None = None
) -> list[Flaw]:
    """Empty: none. The arguments stand in for this environment in tests."""
    found = []
    if backend() != "upb":
        found.append(
            Flaw(
                message=f"protobuf runs on its {backend()!r} backend: Envoy's configuration is built 100 times slower",
                way_out="install a protobuf wheel for this platform, and unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
            )
        )
    try:
        (installed or importlib.metadata.distribution)("opentelemetry-proto")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        found.append(
            Flaw(
                message="opentelemetry-proto is installed beside xds-protos, which brings an old copy of its files",
                way_out="uninstall opentelemetry-proto here; services have environments of their own",
            )
        )
    return found
