"""The service in this process, over SQLite and without NATS: events stay in the outbox, where tests read them.

`pytest` in an environment with the requirements, pytest, and `shoal` on the path.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from alembic import command
from alembic.config import Config
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from httpx import ASGITransport, AsyncClient, Response

FOLDER = Path(__file__).parents[1]
sys.path.insert(0, str(FOLDER))

from products.app import app  # noqa: E402
from products.identity import ALGORITHM, AUDIENCE, ISSUER, Identity  # noqa: E402
from products.models import outbox  # noqa: E402
from sqlalchemy import select  # noqa: E402

from shoal.sdk import events  # noqa: E402

_KEY = Ed25519PrivateKey.generate()


def bearer(*roles: str, key: Ed25519PrivateKey = _KEY, expires_in_s: float = 600) -> dict[str, str]:
    expires_at = time.time() + expires_in_s
    claims = {"sub": "7", "name": "Ada", "roles": roles, "iss": ISSUER, "aud": AUDIENCE, "exp": expires_at}
    return {"Authorization": f"Bearer {jwt.encode(claims, key, ALGORITHM, {'kid': 'k1'})}"}


async def key_set() -> Mapping[str, Any]:
    return {"keys": [jwt.algorithms.OKPAlgorithm.to_jwk(_KEY.public_key(), as_dict=True) | {"kid": "k1"}]}


@dataclass(frozen=True, slots=True)
class Service:
    http: AsyncClient

    async def add(self, name: str = "Net", **fields: Any) -> dict[str, Any]:
        body = {"name": name, "price_minor": 500} | fields
        answer = await self.http.post("/products", json=body, headers=bearer("staff"))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def reserve(self, order_id: str, quantities: dict[int, int]) -> Response:
        lines = [{"product_id": product_id, "quantity": quantity} for product_id, quantity in quantities.items()]
        return await self.http.put(f"/reservations/{order_id}", json={"lines": lines})

    async def release(self, order_id: str) -> Response:
        return await self.http.delete(f"/reservations/{order_id}")

    async def paid(self, order_id: str) -> None:
        data = {"order_id": order_id, "user_id": 1, "lines": []}
        assert await app.state.inbox.apply(events.new("cart-service", "order.paid", order_id, data))

    async def stock(self, product_id: int) -> int:
        return int((await self.http.get(f"/products/{product_id}")).json()["stock"])

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Type and data of the events in the outbox, in their order."""
        rows = select(outbox.table.c.event).order_by(outbox.table.c.id)
        async with app.state.transactions.begin() as session:
            found = [json.loads(row) for row in await session.scalars(rows)]
        return [(event["type"], event["data"]) for event in found]


@asynccontextmanager
async def running() -> AsyncIterator[Service]:
    async with app.router.lifespan_context(app):
        app.state.identity = Identity(fetch=key_set)
        async with AsyncClient(transport=ASGITransport(app), base_url="http://product-service") as http:
            yield Service(http)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "products.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", f"sqlite:///{path}")
        command.upgrade(Config(FOLDER / "alembic.ini"), "head")
    return path


@pytest.fixture
def database_url(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{shutil.copy(migrated, tmp_path)}"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.delenv("NATS_URL", raising=False)
    return url


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    async with running() as service:
        yield service
