"""The service in this process, without a socket, on a SQLite file of each test's own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

SERVICE = Path(__file__).parents[1]
sys.path.insert(0, str(SERVICE))

from alembic import command  # noqa: E402
from alembic.config import Config  # noqa: E402
from users.app import app  # noqa: E402


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("users") / "migrated.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", f"sqlite:///{file}")
        command.upgrade(Config(SERVICE / "alembic.ini"), "head")
    return file


@pytest.fixture(autouse=True)
def database(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "users.db"
    shutil.copy(migrated, file)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{file}")
    monkeypatch.delenv("NATS_URL", raising=False)
    return file


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://users") as made,
    ):
        yield made
