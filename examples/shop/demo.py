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
SHOP = f"http://localhost:{GATEWAY}"
PORTS = {"user-service": 3000, "product-service": 3001, "cart-service": 3002}
SPREAD = 60
"""Requests sent to see who answers."""
QUANTITY = 2


class DemoError(Exception):
    """An answer that is not what it should be."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    """Decoded JSON; None when there is none."""
    replica: str


def main() -> int:
    print(f"Bringing up the shop. It will be at {SHOP}, for a browser.")
    print("4 services, PostgreSQL and NATS, behind Envoy; the first time takes half a minute more.\n", flush=True)
    code = shoal("up", "-d")
    if code != 0:
        print("\nThe shop did not come up; the reason is above. What runs can be stopped with: make demo-stop")
        return code
    try:
        fill_shelves()
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


def fill_shelves() -> None:
    if send("GET", GATEWAY, "/products?size=1", None, {}).body["total"] == 0:
        print("\nThe shelves are empty, so the job 'seed' runs:", flush=True)
        if shoal("run", "seed") != 0:
            raise DemoError("the job 'seed' failed; its words: shoal logs seed")


def walk_through() -> None:
    """The life of one order, through the gateway: what the pages of the storefront ask for as well."""
    nobody_else = f"{time.strftime('%H%M%S')}-{os.urandom(2).hex()}"
    login = {"email": f"ada-{nobody_else}@example.org", "password": "correct horse"}
    print("\nA customer registers and logs in:")
    request("POST", "/register", login | {"name": "Ada"}, expect=201)
    token = request("POST", "/login", login, expect=200).body["token"]
    customer = {"Authorization": f"Bearer {token}"}
    request("GET", "/users/me", headers=customer, expect=200)

    print("\nShe looks for something that is in stock:")
    found = request("GET", "/products?search=mug", expect=200).body["items"]
    product = next((product for product in found if product["stock"] >= QUANTITY), None)
    if product is None:
        raise DemoError(f"no mug is in stock {QUANTITY} times any more; start afresh: examples/shop/README.md")

    print("\nIt goes into a cart. Names and prices are cart-service's own copy, kept in step by events:")
    cart = request("POST", "/carts", headers=customer, expect=201).body["id"]
    request("PUT", f"/carts/{cart}/items/{product['id']}", {"quantity": QUANTITY}, headers=customer, expect=200)
    request("GET", f"/carts/{cart}", headers=customer, expect=200)

    print("\nShe pays. The request is sent twice, as an impatient browser would:")
    order = {"ship_to": "Ada Lovelace, 12 St James's Square, London"}
    key = customer | {"Idempotency-Key": nobody_else}
    paid = request("POST", f"/carts/{cart}/checkout", order, headers=key, expect=201).body
    again = request("POST", f"/carts/{cart}/checkout", order, headers=key, expect=201, note="same key: same order").body
    orders = request("GET", "/orders", headers=customer, expect=200).body
    left = request("GET", f"/products/{product['id']}", expect=200, note="what is left").body["stock"]
    if again != paid or orders != [paid] or left != product["stock"] - QUANTITY:
        raise DemoError(
            f"one order should be paid once, and {QUANTITY} of {product['stock']} be gone; "
            f"the answers were {paid} and {again}, the orders {orders}, and {left} are left"
        )
    print(f"  Charged once: €{paid['total_minor'] / 100:.2f}.")

    print("\nShe leaves, and with her all that is known of her:")
    request("DELETE", "/users/me", {"password": login["password"]}, headers=customer, expect=204)
    request("POST", "/login", login, expect=401)


def request(
    method: str,
    path: str,
    body: object = None,
    *,
    headers: dict[str, str] | None = None,
    expect: int,
    note: str = "",
) -> Answer:
    """Sends one request and prints it with its answer. DemoError: another status than `expect`."""
    started = time.perf_counter()
    answer = send(method, GATEWAY, path, body, headers or {})
    took_ms = (time.perf_counter() - started) * 1000
    said = "" if answer.body is None else json.dumps(answer.body)
    said = said if len(said) <= 76 else f"{said[:73]}..."
    print(f"  {method:<6} localhost:{GATEWAY}{path}", f"  ({note})" if note else "", sep="")
    print(f"         {answer.status}  {took_ms:3.0f} ms  {answer.replica:<19} {said}", flush=True)
    if answer.status != expect:
        raise DemoError(f"{method} localhost:{GATEWAY}{path} answered {answer.status}, not {expect}: {answer.body}")
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
    print(f"  {'in a browser':<16} {SHOP}")
    for service, port in PORTS.items():
        print(f"  {service:<16} http://localhost:{port}    (its documentation: http://localhost:{port}/docs)")
    shoal_path = Path(sys.executable).with_name("shoal")
    try:
        shoal_path = shoal_path.relative_to(Path.cwd())
    except ValueError:
        pass
    print("\nLook at it, kill something, look again:")
    for arguments in ("status", "explain cart-service", "events", "logs storefront", "scale product-service 0"):
        first, *rest = arguments.split(" ", 1)
        print(f"  {shoal_path} {first} --file examples/shop {' '.join(rest)}".rstrip())
    print("Without product-service baskets still show names and prices; 'scale product-service 3' brings it back.")
    print(f"\nThe shop: {SHOP}    Stop it with: make demo-stop")


if __name__ == "__main__":
    sys.exit(main())
