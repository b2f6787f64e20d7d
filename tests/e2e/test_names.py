"""`http://product-service:3001` from inside a service, and the 403 for what it has not declared."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.plane import ECHO, Plane, plane
from tests.support.port import free_port
from tests.support.user import UnavailableError, nobody

pytestmark = pytest.mark.integration

Example = Callable[[str], tuple[Path, dict[int, int]]]
CURL = ("curl", "-sS", "--max-time", "10", "--noproxy", "*")


def app_file(users: int, products: int, carts: int, names: str = "auto") -> str:
    return f"""
services:
  user-service: {{run: "echo:app", port: {users}}}
  product-service: {{run: "echo:app", port: {products}, replicas: 2}}
  cart-service: {{run: "echo:app", port: {carts}, calls: [product-service], names: {names}}}
"""


@contextmanager
def shop(folder: Path, who: str) -> Iterator[Plane]:
    """Three services as in the shop: cart-service declares product-service and nothing else."""
    folder.chmod(0o755)
    text = app_file(free_port(), free_port(), free_port())
    files = {"shoal.yaml": text, "echo.py": ECHO}
    if who == "as we are":
        with plane(folder / "app", files=files) as made:
            yield made
        return
    try:
        somebody = nobody(folder)
    except UnavailableError as error:
        pytest.skip(f"cannot run as another user: {error}")
    with plane(
        folder / "app",
        files=files,
        command=[*somebody.python, "-m", "shoal"],
        environment=somebody.environment,
        owner=somebody.uid,
    ) as made:
        yield made


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """pytest's tmp_path is closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="shoal-e2e-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def port_of(plane: Plane, service: str) -> int:
    return next(int(entry["port"]) for entry in plane.status()["services"] if entry["name"] == service)


@pytest.mark.parametrize("who", ["as we are", "as an unprivileged user"])
def test_a_declared_service_answers_by_its_name_and_another_is_refused_with_the_way_out(
    public_folder: Path, who: str
) -> None:
    with shop(public_folder, who) as shoal:
        shoal.up()
        status = shoal.status()
        if status["names"] != "names":
            assert status["names_reason"], "a machine without private hosts files must say why"
            pytest.skip(f"names do not work here: {status['names_reason']}")

        products = f"http://product-service:{port_of(shoal, 'product-service')}/products"
        answer = shoal.shoal("exec", "cart-service", "--", *CURL, products)
        assert json.loads(answer.stdout)["service"] == "product-service"
        assert json.loads(answer.stdout)["path"] == "/products"

        users = f"http://user-service:{port_of(shoal, 'user-service')}/"
        answer = shoal.shoal("exec", "cart-service", "--", *CURL, "-i", users)
        head, _, body = answer.stdout.replace("\r", "").partition("\n\n")
        assert " 403 " in head.splitlines()[0]
        assert "application/problem+json" in head
        problem = json.loads(body)
        assert problem["status"] == 403
        assert "calls: [user-service]" in json.dumps(problem) or "user-service" in problem["way_out"]
        assert "cart-service" in json.dumps(problem)

        env = shoal.shoal("exec", "cart-service", "--", "env").stdout.splitlines()
        assert f"PRODUCT_SERVICE_URL={products.removesuffix('/products')}" in env
        assert not [line for line in env if line.startswith("USER_SERVICE_")]


def test_a_refused_call_is_listed_in_the_events(public_folder: Path) -> None:
    with shop(public_folder, "as we are") as shoal:
        shoal.up()
        if shoal.status()["names"] != "names":
            pytest.skip(f"names do not work here: {shoal.status()['names_reason']}")
        shoal.shoal("exec", "cart-service", "--", *CURL, f"http://user-service:{port_of(shoal, 'user-service')}/")
        event = shoal.wait_for_event("CallDenied", "cart-service")
        assert "user-service" in event["message"]


def test_with_names_env_the_variable_leads_to_the_same_edge(tmp_path: Path) -> None:
    text = app_file(free_port(), free_port(), free_port(), names="env")
    with plane(tmp_path / "app", files={"shoal.yaml": text, "echo.py": ECHO}) as shoal:
        shoal.up()
        answer = shoal.shoal("exec", "cart-service", "--", "sh", "-c", f'{" ".join(CURL[:4])} "$PRODUCT_SERVICE_URL/x"')
        assert json.loads(answer.stdout)["service"] == "product-service"


def test_exec_ends_as_its_command_does(tmp_path: Path) -> None:
    text = app_file(free_port(), free_port(), free_port())
    with plane(tmp_path / "app", files={"shoal.yaml": text, "echo.py": ECHO}) as shoal:
        shoal.up()
        assert shoal.shoal("exec", "cart-service", "--", "sh", "-c", "exit 7", check=False).returncode == 7
        assert shoal.shoal("exec", "no-such-service", "--", "true", check=False).returncode == 2
