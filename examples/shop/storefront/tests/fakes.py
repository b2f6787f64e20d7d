"""The three services as one object in memory, behind `httpx.MockTransport`: as much of them as pages need."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import httpx

MAKES = ("Harbour", "Dune", "Meadow", "Ember", "Chalk", "Tin")
THINGS = (
    "mug",
    "teapot",
    "desk lamp",
    "wall clock",
    "notebook",
    "blanket",
    "key ring",
    "bath brush",
    "doormat",
    "cushion",
)
PROBLEM = "application/problem+json"


class FakeServices:
    def __init__(self, products: int = 60) -> None:
        self.away: set[str] = set()
        self.silent = False
        """A checkout is done, and its answer lost."""
        self.asked: list[httpx.Request] = []
        self.users: dict[str, dict[str, Any]] = {}
        self.products = {
            number: {
                "id": number,
                "name": f"{MAKES[number % 6]} {THINGS[number % 10]} {number}",
                "description": "Made of what lasts, and easy to mend. It asks for little.",
                "price_minor": 350 + number * 137 % 9000,
                "currency": "EUR",
                "stock": (50, 3, 0)[number % 7 % 3],
                "version": 1,
            }
            for number in range(1, products + 1)
        }
        self.carts: dict[str, dict[str, Any]] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.charged: list[str] = []
        self.answers: dict[str, dict[str, Any]] = {}

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.host in self.away:
            raise httpx.ConnectError("refused", request=request)
        path, told = request.url.path, json.loads(request.content or b"null")
        for pattern, work in ROUTES:
            if found := re.fullmatch(pattern, f"{request.method} {path}"):
                return work(self, request, told, *found.groups())
        return problem(404, "not-found")

    def user(self, request: httpx.Request) -> dict[str, Any] | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return next((user for user in self.users.values() if user["token"] == token), None)

    def register(self, _: httpx.Request, told: Any) -> httpx.Response:
        if told["email"] in self.users:
            return problem(409, "email-taken")
        if len(told["password"]) < 8:
            return problem(422, "invalid")
        self.users[told["email"]] = user = {"id": len(self.users) + 1, "token": uuid.uuid4().hex, **told}
        return httpx.Response(201, json=public(user))

    def log_in(self, _: httpx.Request, told: Any) -> httpx.Response:
        user = self.users.get(told["email"])
        if user is None or user["password"] != told["password"]:
            return problem(401, "bad-credentials")
        return httpx.Response(200, json={"token": user["token"], "expires_in_s": 3600, "token_type": "Bearer"})

    def me(self, request: httpx.Request, _: Any) -> httpx.Response:
        user = self.user(request)
        return httpx.Response(200, json=public(user)) if user else problem(401, "unauthenticated")

    def delete_me(self, request: httpx.Request, told: Any) -> httpx.Response:
        user = self.user(request)
        if user is None:
            return problem(401, "unauthenticated")
        if told["password"] != user["password"]:
            return problem(403, "wrong-password")
        del self.users[user["email"]]
        return httpx.Response(204)

    def list_products(self, request: httpx.Request, _: Any) -> httpx.Response:
        wanted = request.url.params
        search, page, size = wanted.get("search", "").lower(), int(wanted["page"]), int(wanted["size"])
        found = [product for product in self.products.values() if search in product["name"].lower()]
        items = found[(page - 1) * size : page * size]
        return httpx.Response(200, json={"items": items, "total": len(found), "page": page, "size": size})

    def product(self, _: httpx.Request, __: Any, number: str) -> httpx.Response:
        product = self.products.get(int(number))
        return httpx.Response(200, json=product) if product else problem(404, "not-found")

    def new_cart(self, _: httpx.Request, __: Any) -> httpx.Response:
        cart = {"id": str(uuid.uuid4()), "lines": {}, "status": "open"}
        self.carts[cart["id"]] = cart
        return httpx.Response(201, json=self.shown(cart))

    def shown(self, cart: dict[str, Any]) -> dict[str, Any]:
        items = [
            {
                "product_id": number,
                "name": self.products[number]["name"],
                "price_minor": self.products[number]["price_minor"],
                "quantity": quantity,
                "total_minor": quantity * self.products[number]["price_minor"],
            }
            for number, quantity in cart["lines"].items()
        ]
        total = sum(line["total_minor"] for line in items)
        return {"id": cart["id"], "items": items, "total_minor": total, "currency": "EUR", "status": cart["status"]}

    def cart(self, _: httpx.Request, __: Any, cart_id: str) -> httpx.Response:
        cart = self.carts.get(cart_id)
        return httpx.Response(200, json=self.shown(cart)) if cart else problem(404, "not-found")

    def add(self, _: httpx.Request, told: Any, cart_id: str) -> httpx.Response:
        if told["product_id"] not in self.products:
            return problem(404, "unknown-product")
        lines = self.carts[cart_id]["lines"]
        lines[told["product_id"]] = lines.get(told["product_id"], 0) + told["quantity"]
        return httpx.Response(200, json=self.shown(self.carts[cart_id]))

    def change(self, _: httpx.Request, told: Any, cart_id: str, number: str) -> httpx.Response:
        self.carts[cart_id]["lines"][int(number)] = told["quantity"]
        return httpx.Response(200, json=self.shown(self.carts[cart_id]))

    def remove(self, _: httpx.Request, __: Any, cart_id: str, number: str) -> httpx.Response:
        self.carts[cart_id]["lines"].pop(int(number), None)
        return httpx.Response(204)

    def check_out(self, request: httpx.Request, told: Any, cart_id: str) -> httpx.Response:
        user, key = self.user(request), request.headers["idempotency-key"]
        if user is None:
            return problem(401, "unauthenticated")
        if key in self.answers:
            return httpx.Response(201, json=self.answers[key])
        cart = self.carts[cart_id]
        if cart["status"] != "open":
            return problem(409, "checked-out")
        short = [n for n, quantity in cart["lines"].items() if quantity > self.products[n]["stock"]]
        if short:
            return problem(409, "out-of-stock", f"{self.products[short[0]]['name']} is out of stock")
        shown = self.shown(cart)
        order = {
            "id": str(uuid.uuid4()),
            "status": "paid",
            "lines": shown["items"],
            "total_minor": shown["total_minor"],
            "currency": "EUR",
            "ship_to": told["ship_to"],
            "created_at": "2026-05-01T10:00:00+00:00",
        }
        cart["status"] = "checked_out"
        self.charged.append(cart_id)
        self.answers[key] = order
        self.orders[order["id"]] = order | {"user": user["email"]}
        if self.silent:
            raise httpx.ReadTimeout("lost", request=request)
        return httpx.Response(201, json=order)

    def list_orders(self, request: httpx.Request, _: Any) -> httpx.Response:
        user = self.user(request)
        if user is None:
            return problem(401, "unauthenticated")
        return httpx.Response(200, json=[order for order in self.orders.values() if order["user"] == user["email"]])

    def order(self, request: httpx.Request, _: Any, order_id: str) -> httpx.Response:
        user, order = self.user(request), self.orders.get(order_id)
        if user is None:
            return problem(401, "unauthenticated")
        if order is None or order["user"] != user["email"]:
            return problem(404, "not-found")
        return httpx.Response(200, json=order)


ROUTES = (
    ("POST /register", FakeServices.register),
    ("POST /login", FakeServices.log_in),
    ("GET /users/me", FakeServices.me),
    ("DELETE /users/me", FakeServices.delete_me),
    ("GET /products", FakeServices.list_products),
    (r"GET /products/(\d+)", FakeServices.product),
    ("POST /carts", FakeServices.new_cart),
    ("GET /carts/([^/]+)", FakeServices.cart),
    ("POST /carts/([^/]+)/items", FakeServices.add),
    (r"PUT /carts/([^/]+)/items/(\d+)", FakeServices.change),
    (r"DELETE /carts/([^/]+)/items/(\d+)", FakeServices.remove),
    ("POST /carts/([^/]+)/checkout", FakeServices.check_out),
    ("GET /orders", FakeServices.list_orders),
    ("GET /orders/([^/]+)", FakeServices.order),
)


def public(user: dict[str, Any]) -> dict[str, Any]:
    return {"id": user["id"], "name": user["name"], "email": user["email"], "roles": []}


def problem(status: int, kind: str, detail: str = "") -> httpx.Response:
    told = {"type": kind, "title": kind, "status": status, "detail": detail}
    return httpx.Response(status, json=told, headers={"content-type": PROBLEM})
