"""Where a service may connect outside the app, in words for `shoal explain`."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.model.app import Network, Service
from shoal.model.status import Setting


def egress_settings(service: Service, no_way_out: str) -> Iterator[Setting]:
    """`no_way_out`: why networks of their own have no way to the outside on this machine; empty: they have one."""
    if service.network is Network.HOST:
        return
    if service.egress is not None:
        value = ", ".join(service.egress) or "nowhere"
        yield Setting(name="egress", value=value, source="app file")
    else:
        value = f"nowhere: {no_way_out}" if no_way_out else "everything outside the machine, by pasta"
        yield Setting(name="egress", value=value, source="default")
