"""Asks the shop's services all that their OpenAPI documents allow, and much that they do not: no answer is a 5xx, and
each is as its document says.

Each service runs in this process on a SQLite file that its migrations have made; what it asks of others is answered by
`Neighbours`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import schemathesis
from alembic import command
from alembic.config import Config
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.python.asgi import shutdown_lifespans

SHOP = Path(__file__).parents[2] / "examples" / "shop"
PACKAGES = {"user-service": "users", "product-service": "products", "cart-service": "carts"}
ANN = {"email": "ann@example.org", "password": "correct horse"}
KEY = Ed25519PrivateKey.generate()

pytestmark = pytest.mark.integration


class Neighbours(BaseHTTPRequestHandler):
    """user-service and product-service, as far as other services ask them: one key, 100 products, endless stock."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/.well-known/jwks.json":
            key = jwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
            self.answer(200, {"keys": [key | {"kid": "k1", "alg": "EdDSA", "use": "sig"}]})
        elif (found := re.fullmatch(r"/products/(\d+)", self.path)) and 1 <= int(found[1]) <= 100:
            product = {"id": int(found[1]), "name": "net", "description": "", "price_minor": 500, "currency": "EUR"}
            self.answer(200, product | {"stock": 7, "version": 1})
        else:
            self.answer(404, {"type": "about:blank", "title": "Not Found", "status": 404})

    def do_PUT(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.answer(201, {"order_id": self.path.rpartition("/")[2], "status": "reserved", **order})

    def do_DELETE(self) -> None:
        self.answer(204, None)

    def answer(self, status: int, body: dict[str, Any] | None) -> None:
        said = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if body is not None:
            self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def neighbours() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Neighbours)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module", params=PACKAGES, ids=str)
def openapi(
    request: pytest.FixtureRequest, neighbours: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[schemathesis.BaseSchema]:
    folder = SHOP / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", f"sqlite:///{tmp_path_factory.mktemp(request.param)}/it.db")
        patch.delenv("NATS_URL", raising=False)
        for name in ("USER_SERVICE_URL", "PRODUCT_SERVICE_URL"):
            patch.setenv(name, neighbours)
        patch.syspath_prepend(folder)
        command.upgrade(Config(folder / "alembic.ini"), "head")
        app = importlib.import_module(f"{PACKAGES[request.param]}.app").app
        yield schemathesis.openapi.from_asgi("/openapi.json", app)
        shutdown_lifespans()


@pytest.fixture(scope="module")
def token(openapi: schemathesis.BaseSchema) -> str:
    """user-service believes what it has said itself; the others, what `Neighbours`' key has signed."""
    if "/login" in set(openapi):
        for path, body in (("/register", ANN | {"name": "Ann"}), ("/login", ANN)):
            answer = openapi[path]["POST"].Case(body=body, media_type="application/json").call()
        return str(answer.json()["token"])
    claims = {"iss": "user-service", "aud": "shop", "sub": "7", "name": "Ann", "roles": ["staff"]}
    return jwt.encode(claims | {"exp": time.time() + 3600}, KEY, "EdDSA", headers={"kid": "k1"})


def test_each_answer_is_what_the_document_says(
    openapi: schemathesis.BaseSchema, token: str, subtests: pytest.Subtests
) -> None:
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"})

    for operation in (result.ok() for result in openapi.get_all_operations()):
        with subtests.test(operation.label):
            generation = openapi.config.generation_for(operation=operation, phase="coverage")
            for case in openapi.iter_coverage_cases(
                operation, generation_modes=list(GenerationMode), generation_config=generation
            ):
                ask(case)
            settings(max_examples=15)(given(operation.as_strategy())(ask))()
            # An operation that takes nothing cannot be asked in a wrong way.
            with contextlib.suppress(Unsatisfiable):
                settings(max_examples=15)(given(operation.as_strategy(GenerationMode.NEGATIVE))(ask))()
