"""The shop as people see it: `make demo` in a terminal, and a customer in a browser, over one start of the app."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.plane import Plane, plane
from tests.support.shopper import shoppers

pytestmark = pytest.mark.integration

Example = Callable[[str], tuple[Path, dict[int, int]]]


def demo(shoal: Plane) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(shoal.folder / "demo.py")],
        env=shoal.env(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    print(done.stdout + done.stderr)
    return done


@pytest.mark.timeout(400)
def test_the_demo_and_customers_walk_through_the_shop(example: Example, tmp_path: Path) -> None:
    folder, ports = example("shop")
    address = f"http://localhost:{ports[8088]}"
    with plane(folder) as shoal:
        the_demo_may_run_twice(shoal, address)
        with shoppers(address, tmp_path) as both:
            for shopper in both:
                email = f"{shopper.size}@example.org"
                shopper.sign_up(email)
                shopper.browse()
                first, other = shopper.put_in_basket(1, 2), shopper.put_in_basket(3, 1)
                shopper.change_basket(1, 3, gone=other)
                shopper.check_out()
                shopper.find_order(first)
                shopper.delete_account(email)
            name = both[0].put_in_basket(4, 1)
            shoal.shoal("scale", "product-service", "0")
            both[0].find_basket_without_catalogue(name)


def the_demo_may_run_twice(shoal: Plane, address: str) -> None:
    first = demo(shoal)
    assert first.returncode == 0
    assert address in first.stdout.splitlines()[0]
    for words in ("200 products are added", "/register", "/checkout", "Charged once", "DELETE", "make demo-stop"):
        assert words in first.stdout
    for replica in ("product-service-r1", "product-service-r2", "product-service-r3"):
        assert replica in first.stdout
    pids = shoal.pids()
    second = demo(shoal)
    assert second.returncode == 0
    assert "products are added" not in second.stdout
    assert shoal.pids() == pids


def test_a_taken_port_ends_the_demo_with_its_owner(example: Example) -> None:
    folder, ports = example("shop")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[3001]))
        taken.listen()
        with plane(folder) as shoal:
            done = demo(shoal)
            assert done.returncode != 0
            assert str(ports[3001]) in done.stdout + done.stderr
            assert f"pid {os.getpid()}" in done.stdout + done.stderr
