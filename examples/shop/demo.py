"""`make demo`: brings the shop up and walks through it with real requests, printed as they go.

Standard library only. May run again and again: what already runs is used as it is. Exit status: 0 all went well, 1 an
answer was not what it should be, else that of `shoal up`.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
GATEWAY = 8088
PORTS = {"user-service": 3000, "product-service": 3001, "cart-service": 3002}
SPREAD = 60
"""Requests sent to see who answers."""


class DemoError(Exception):
    """An answer that is not what it should be."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    """Decoded JSON; None when there is none."""
    replica: str


def main() -> int:
    print("Bringing up the shop: 3 services, 3 replicas each, behind Envoy.\n", flush=True)
    code = shoal("up", "-d")
    if code != 0:
        print("\nThe shop did not come up; the reason is above. What runs can be stopped with: make demo-stop")
        return code
    try:
        walk_through()
        show_spread()
    except (DemoError, OSError, http.client.HTTPException) as error:
        print(f"\nThe demo stopped: {error}\n", file=sys.stderr, flush=True)
        shoal("status")
        print("\nThe services' logs: shoal logs SERVICE --file examples/shop    To stop the shop: make demo-stop")
        return 1
    show_addresses()
    return 0


def shoal(*arguments: str) -> int:
    """Runs Shoal's command line of this very environment; its output is the user's to read."""
    command, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "shoal", command, *rest, "--file", str(FOLDER)], check=False
    ).returncode


def walk_through() -> None:
    """The life of one cart, through the gateway; the last two requests straight to the service's own port."""
    nobody_else = f"{time.strftime('%H%M%S')}-{os.urandom(2).hex()}"
    customer = {"name": f"ada-{nobody_else}", "password": "correct horse"}
    print("\nA customer registers and logs in:")
    request("POST", GATEWAY, "/register", customer, expect=201)
    token = request("POST", GATEWAY, "/login", customer, expect=200).body["token"]
    request("GET", GATEWAY, "/users/me", headers={"Authorization": f"Bearer {token}"}, expect=200)

    print("\nA product is added and listed:")
    product = request("POST", GATEWAY, "/products", {"name": f"net {nobody_else}", "price_cents": 500}, expect=201).body
    products = request("GET", GATEWAY, "/products", expect=200).body
    if product not in products:
        raise DemoError(f"product {product['id']} is not in the list of products")

    print("\nIt goes into a cart (cart-service asks http://product-service:3001 for its price), and out again:")
    order = {"product_id": product["id"], "quantity": 2}
    key = {"Idempotency-Key": nobody_else}
    cart = request("POST", GATEWAY, "/carts", order, headers=key, expect=201).body
    again = request("POST", GATEWAY, "/carts", order, headers=key, expect=201, note="same key: same cart").body
    if again != cart or cart["total_cents"] != 1000:
        raise DemoError(f"the cart should cost 1000 and be made once; the answers were {cart} and {again}")
    request("GET", GATEWAY, f"/carts/{cart['id']}", expect=200)
    request("DELETE", PORTS["cart-service"], f"/carts/{cart['id']}", expect=204)
    request("GET", PORTS["cart-service"], f"/carts/{cart['id']}", expect=404)


def request(
    method: str,
    port: int,
    path: str,
    body: object = None,
    *,
    headers: dict[str, str] | None = None,
    expect: int,
    note: str = "",
) -> Answer:
    """Sends one request and prints it with its answer. DemoError: another status than `expect`."""
    started = time.perf_counter()
    answer = send(method, port, path, body, headers or {})
    took_ms = (time.perf_counter() - started) * 1000
    said = "" if answer.body is None else json.dumps(answer.body)
    said = said if len(said) <= 76 else f"{said[:73]}..."
    print(f"  {method:<6} localhost:{port}{path}", f"  ({note})" if note else "", sep="")
    print(f"         {answer.status}  {took_ms:3.0f} ms  {answer.replica:<19} {said}", flush=True)
    if answer.status != expect:
        raise DemoError(f"{method} localhost:{port}{path} answered {answer.status}, not {expect}: {answer.body}")
    return answer


def send(method: str, port: int, path: str, body: object, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection("localhost", port, timeout=10)
    try:
        content = None if body is None else json.dumps(body)
        given = headers if content is None else headers | {"Content-Type": "application/json"}
        connection.request(method, path, content, given)
        response = connection.getresponse()
        raw = response.read()
        try:
            decoded = json.loads(raw) if raw else None
        except ValueError:
            decoded = raw.decode(errors="replace")
        return Answer(response.status, decoded, response.headers.get("x-shoal-replica", "-"))
    finally:
        connection.close()


def show_spread() -> None:
    """DemoError: not all of the three replicas answered, or one request failed."""
    print(f"\n{SPREAD} times GET localhost:{GATEWAY}/products, by who answered:")
    answers = [send("GET", GATEWAY, "/products", None, {}) for _ in range(SPREAD)]
    counts = Counter(answer.replica for answer in answers)
    for replica, count in sorted(counts.items()):
        print(f"  {replica:<19} {count:3} {'▪' * count}")
    failed = sum(answer.status != 200 for answer in answers)
    if failed:
        raise DemoError(f"{failed} of {SPREAD} requests failed")
    if len(counts) != 3:
        raise DemoError(f"3 replicas should share the work, {len(counts)} did")


def show_addresses() -> None:
    print("\nThe shop runs in the background:")
    print(f"  {'gateway':<16} http://localhost:{GATEWAY}")
    for service, port in PORTS.items():
        print(f"  {service:<16} http://localhost:{port}    (its documentation: http://localhost:{port}/docs)")
    shoal_path = Path(sys.executable).with_name("shoal")
    try:
        shoal_path = shoal_path.relative_to(Path.cwd())
    except ValueError:
        pass
    print("\nLook at it, kill something, look again:")
    for arguments in (
        "status",
        "explain cart-service",
        "events",
        "exec cart-service -- curl http://user-service:3000/",
    ):
        first, *rest = arguments.split(" ", 1)
        print(f"  {shoal_path} {first} --file examples/shop {' '.join(rest)}".rstrip())
    print("\nStop it with: make demo-stop")


if __name__ == "__main__":
    sys.exit(main())
