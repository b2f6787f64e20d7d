"""A database with the service's own migrations, a product-service, tokens, and the application over them."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import jwt
import pytest
from alembic import command
from alembic.config import Config
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SERVICE = Path(__file__).parents[1]
sys.path.insert(0, str(SERVICE))

from carts import identity  # noqa: E402
from carts.app import create_app  # noqa: E402
from product_service_model import ProductServiceModel  # noqa: E402

KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cart-service") / "migrated.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", f"sqlite:///{path}")
        command.upgrade(Config(SERVICE / "alembic.ini"), "head")
    return path


@pytest.fixture(autouse=True)
def database_url(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shutil.copy(migrated, tmp_path / "carts.db")
    url = f"sqlite:///{tmp_path / 'carts.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.delenv("NATS_URL", raising=False)
    return url


@pytest.fixture
def shop() -> ProductServiceModel:
    return ProductServiceModel({1: 1000, 2: 1000, 3: 1})


@pytest.fixture
async def client(shop: ProductServiceModel) -> AsyncIterator[httpx.AsyncClient]:
    known = identity.Identity()
    known.trust({"keys": [{**jwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "k1"}]})
    app = create_app(transport=shop.transport(), identity=known)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://cart-service") as client:
            client.app = app
            yield client


@pytest.fixture
def login() -> Callable[[int], dict[str, str]]:
    def headers(user_id: int) -> dict[str, str]:
        claims = {"iss": identity.ISSUER, "aud": identity.AUDIENCE, "sub": str(user_id), "exp": time.time() + 60}
        token = jwt.encode(claims | {"name": "Ann", "roles": []}, KEY, algorithm="EdDSA", headers={"kid": "k1"})
        return {"Authorization": f"Bearer {token}"}

    return headers
