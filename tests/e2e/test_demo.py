"""`make demo`, on ports of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.plane import Plane, plane

pytestmark = pytest.mark.integration

Example = Callable[[str], tuple[Path, dict[int, int]]]


def demo(shoal: Plane) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(shoal.folder / "demo.py")],
        env=shoal.env(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    print(done.stdout + done.stderr)
    return done


def test_the_demo_walks_through_the_shop_and_may_run_twice(example: Example) -> None:
    folder, ports = example("shop")
    with plane(folder) as shoal:
        first = demo(shoal)
        assert first.returncode == 0
        for words in (
            "/register",
            "/login",
            "/products",
            "/carts",
            "DELETE",
            f"localhost:{ports[8088]}",
            "make demo-stop",
        ):
            assert words in first.stdout
        for replica in ("product-service-r1", "product-service-r2", "product-service-r3"):
            assert replica in first.stdout
        pids = shoal.pids()
        second = demo(shoal)
        assert second.returncode == 0
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
