from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from alembic import command
from alembic.config import Config
from argon2 import PasswordHasher
from users import grant
from users.app import app

from shoal.sdk.database import Transactions, engine

pytestmark = pytest.mark.anyio
ANN = {"name": "Ann", "email": "ann@example.org", "password": "correct horse"}
SECRETS = {"email": ANN["email"], "password": ANN["password"]}


async def log_in(client: httpx.AsyncClient) -> dict[str, str]:
    """Ann's, who has registered."""
    answer = await client.post("/login", json=SECRETS)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def rows(database: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def test_who_registers_can_log_in_and_is_known_by_the_token(client: httpx.AsyncClient) -> None:
    made = await client.post("/register", json=ANN)
    assert (made.status_code, made.json()) == (201, {"id": 1, "name": "Ann", "email": "ann@example.org", "roles": []})
    token = (await client.post("/login", json=SECRETS)).json()
    assert (token["expires_in_s"], token["token_type"]) == (3600, "Bearer")
    me = await client.get("/users/me", headers={"Authorization": f"Bearer {token['token']}"})
    assert me.json() == made.json()


async def test_anybody_can_check_a_token_by_the_key_set(client: httpx.AsyncClient) -> None:
    await client.post("/register", json=ANN)
    token = (await log_in(client))["Authorization"].removeprefix("Bearer ")
    key_set = jwt.PyJWKSet.from_dict((await client.get("/.well-known/jwks.json")).json())
    key = key_set[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="shop", issuer="user-service")
    assert (claims["sub"], claims["name"], claims["roles"]) == ("1", "Ann", [])
    assert claims["exp"] - claims["iat"] == 3600


async def test_an_address_has_one_account_in_whatever_letters(client: httpx.AsyncClient) -> None:
    await client.post("/register", json=ANN)
    again = await client.post("/register", json=ANN | {"email": "ANN@Example.org"})
    assert (again.status_code, again.json()["type"]) == (409, "email-taken")
    assert (await client.post("/login", json=SECRETS | {"email": "Ann@EXAMPLE.org"})).status_code == 200


@pytest.mark.parametrize("wrong", [{"password": "wrong horse"}, {"email": "bob@example.org"}])
async def test_a_wrong_log_in_does_not_say_what_was_wrong(client: httpx.AsyncClient, wrong: dict[str, str]) -> None:
    await client.post("/register", json=ANN)
    answer = await client.post("/login", json=SECRETS | wrong)
    assert answer.status_code == 401
    assert answer.json() == {"type": "wrong-credentials", "title": "Wrong e-mail or password", "status": 401}


@pytest.mark.parametrize(
    "flaw", [{"password": "short"}, {"email": "nobody"}, {"name": ""}, {"name": "a\0b"}, {"age": 7}, {"name": 7}]
)
async def test_what_does_not_fit_is_refused_as_a_problem(client: httpx.AsyncClient, flaw: dict[str, Any]) -> None:
    answer = await client.post("/register", json=ANN | flaw)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Bearer a.b.c", "Basic YTpi", "Bearer é.b"])
async def test_who_shows_no_token_of_ours_is_nobody(client: httpx.AsyncClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode()}
    answer = await client.get("/users/me", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_password_is_kept_by_argon2id_and_made_anew_when_the_parameters_change(
    client: httpx.AsyncClient, database: Path
) -> None:
    await client.post("/register", json=ANN)
    ((kept,),) = rows(database, "SELECT password_hash FROM users")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    with sqlite3.connect(database) as connection:
        connection.execute(
            "UPDATE users SET password_hash = ?",
            (PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(ANN["password"]),),
        )
    connection.close()
    await log_in(client)
    ((renewed,),) = rows(database, "SELECT password_hash FROM users")
    assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await log_in(client)


async def test_who_deletes_the_account_leaves_nothing_but_an_event_without_a_name(
    client: httpx.AsyncClient, database: Path
) -> None:
    await client.post("/register", json=ANN)
    headers = await log_in(client)
    refused = await client.request("DELETE", "/users/me", headers=headers, json={"password": "wrong horse"})
    assert (refused.status_code, refused.json()["type"]) == (403, "wrong-password")
    assert rows(database, "SELECT * FROM shoal_outbox") == []
    # Twice: Envoy sends it again when the replica that had it dies.
    for body in ({"json": {"password": ANN["password"]}}, {}):
        assert (await client.request("DELETE", "/users/me", headers=headers, **body)).status_code == 204
    ((event,),) = rows(database, "SELECT event FROM shoal_outbox")
    told = json.loads(event)
    assert (told["source"], told["type"], told["subject"]) == ("user-service", "user.deleted", "1")
    assert told["data"] == {"user_id": 1}
    assert rows(database, "SELECT * FROM users") == []
    assert (await client.get("/users/me", headers=headers)).status_code == 401
    assert (await client.post("/login", json=SECRETS)).status_code == 401


async def test_the_next_user_does_not_get_the_id_of_a_deleted_one(client: httpx.AsyncClient) -> None:
    await client.post("/register", json=ANN)
    headers = await log_in(client)
    await client.delete("/users/me", headers=headers)
    assert (await client.post("/register", json=ANN | {"name": "Bob"})).json()["id"] == 2
    assert (await client.get("/users/me", headers=headers)).status_code == 401


async def test_a_role_is_in_the_next_token(client: httpx.AsyncClient) -> None:
    await client.post("/register", json=ANN)
    assert await grant.run("Ann@example.org", "staff")
    assert await grant.run("ann@example.org", "staff"), "twice is once"
    headers = await log_in(client)
    token = headers["Authorization"].removeprefix("Bearer ")
    assert jwt.decode(token, options={"verify_signature": False})["roles"] == ["staff"]
    assert (await client.get("/users/me", headers=headers)).json()["roles"] == ["staff"]


def test_a_role_is_for_whoever_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    assert grant.main(["bob@example.org", "staff"]) == 1
    assert "nobody is registered as bob@example.org" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        grant.main(["bob@example.org", "emperor"])


async def test_a_database_that_is_away_is_a_503(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.post("/register", json=ANN)
    headers = await log_in(client)
    away = Transactions(engine("postgresql://nobody:x@127.0.0.1:1/nothing"), wait_s=0)
    monkeypatch.setattr(app.state, "transactions", away)
    for answer in (await client.get("/users/me", headers=headers), await client.post("/login", json=SECRETS)):
        assert (answer.status_code, answer.json()["detail"]) == (503, "the database does not answer")


async def test_the_service_tells_that_it_is_well_and_what_it_does_not_have(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await client.get(path)).json() == {"status": "ok"}
    for method, path, status in [("GET", "/nowhere", 404), ("GET", "/login", 405)]:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_the_migrations_make_what_the_models_say(database: Path) -> None:
    config = Config(Path(__file__).parents[1] / "alembic.ini")
    command.check(config)
    command.downgrade(config, "base")
    assert rows(database, "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'") == [("alembic_version",)]
