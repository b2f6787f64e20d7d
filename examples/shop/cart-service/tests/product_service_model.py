"""product-service as far as carts can tell: products, stock, and reservations that are kept by an order's id."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable

import httpx

Hook = Callable[[httpx.Request], Awaitable[None]]


async def nothing(_: httpx.Request) -> None:
    pass


class ProductServiceModel:
    def __init__(self, stock: dict[int, int]) -> None:
        self.stock = dict(stock)
        self.had = dict(stock)
        self.reserved: dict[str, dict[int, int]] = {}
        self.sold: dict[str, dict[int, int]] = {}
        self.released: set[str] = set()
        self.away = False
        self.before: Hook = nothing
        """Awaited before a request takes effect; what it raises, the asker gets."""
        self.after: Hook = nothing
        """Awaited before the answer is given."""
        self.asked: list[str] = []

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._serve)

    def at_peace(self) -> None:
        """Without the hooks."""
        self.before = self.after = nothing

    def sell(self, order_id: str) -> None:
        """What the event `order.paid` does there. KeyError: nothing is reserved for it."""
        if order_id not in self.sold:
            self.sold[order_id] = self.reserved.pop(order_id)

    def adds_up(self) -> None:
        kept = [*self.reserved.values(), *self.sold.values()]
        for product_id, had in self.had.items():
            assert self.stock[product_id] >= 0
            assert self.stock[product_id] + sum(lines.get(product_id, 0) for lines in kept) == had

    async def _serve(self, request: httpx.Request) -> httpx.Response:
        await self.before(request)
        if self.away:
            raise httpx.ConnectError("refused", request=request)
        self.asked.append(f"{request.method} {request.url.path}")
        answer = self._answer(request)
        await self.after(request)
        await asyncio.sleep(0)
        return answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if found := re.fullmatch(r"/products/(\d+)", request.url.path):
            return self._product(int(found[1]))
        order_id = request.url.path.removeprefix("/reservations/")
        if request.method == "DELETE":
            return self._release(order_id)
        lines = {line["product_id"]: line["quantity"] for line in json.loads(request.content)["lines"]}
        return self._reserve(order_id, lines)

    def _product(self, product_id: int) -> httpx.Response:
        if product_id not in self.stock:
            return _problem(404, "about:blank")
        return httpx.Response(
            200,
            json={
                "id": product_id,
                "name": f"thing {product_id}",
                "description": "",
                "price_minor": 100 * product_id,
                "currency": "EUR",
                "stock": self.stock[product_id],
                "version": 1,
            },
        )

    def _reserve(self, order_id: str, lines: dict[int, int]) -> httpx.Response:
        if order_id in self.released:
            return _problem(409, "reservation-released")
        if order_id in self.reserved or order_id in self.sold:
            return httpx.Response(200, json={})
        short = [{"product_id": id_} for id_, quantity in lines.items() if self.stock[id_] < quantity]
        if short:
            return _problem(409, "out-of-stock", detail="none left", products=short)
        for product_id, quantity in lines.items():
            self.stock[product_id] -= quantity
        self.reserved[order_id] = lines
        return httpx.Response(201, json={})

    def _release(self, order_id: str) -> httpx.Response:
        if order_id not in self.sold:
            self.released.add(order_id)
            for product_id, quantity in self.reserved.pop(order_id, {}).items():
                self.stock[product_id] += quantity
        return httpx.Response(204)


def _problem(status: int, kind: str, **more: object) -> httpx.Response:
    return httpx.Response(status, json={"type": kind, "title": kind, "status": status, **more})
