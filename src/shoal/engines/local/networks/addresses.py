"""Addresses of the replicas that have networks of their own."""

from __future__ import annotations

from shoal.engines.local.keeper import networks
from shoal.errors import EngineError


class AddressLeases:
    """Which replica has which. Each lease continues after the last, so that an address rests before it is used again:
    a replica that ended may have left processes which still hold it."""

    def __init__(self) -> None:
        self._next = networks.FIRST
        self._held: dict[str, int] = {}

    def lease(self, replica: str) -> str:
        """Replaces the replica's former one. EngineError: all are taken."""
        self.release(replica)
        taken = set(self._held.values())
        for _ in range(networks.FIRST, networks.LAST + 1):
            number = self._next
            self._next = number + 1 if number < networks.LAST else networks.FIRST
            if number not in taken:
                self._held[replica] = number
                return networks.address_of(number)
        raise EngineError(f"no free address for {replica} in {networks.REPLICAS[0]}", way_out="run fewer replicas")

    def adopt(self, replica: str, address: str) -> None:
        """A replica that runs on since an earlier daemon keeps its address. Another's is nothing to us."""
        number = networks.number_of(address)
        if number is not None:
            self._held[replica] = number
            self._next = max(self._next, number + 1) if number < networks.LAST else networks.FIRST

    def release(self, replica: str) -> None:
        self._held.pop(replica, None)
