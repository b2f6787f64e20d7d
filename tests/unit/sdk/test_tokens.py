"""Tokens of another service, and its keys, which change, are withdrawn, or cannot be had."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shoal.sdk.problems import Problem
from shoal.sdk.tokens import ASK_AGAIN_S, TRUSTED_S, Fetch, Verifier

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


CLAIMS: dict[str, Any] = {"iss": "user-service", "aud": "shop", "sub": "7", "name": "Ann", "roles": ["staff"]}


def verifier(fetch: Fetch | None = None, *, url: str = "http://nowhere", clock: Clock | None = None) -> Verifier:
    return Verifier(url, issuer="user-service", audience="shop", fetch=fetch, clock=clock or time.monotonic)


async def who(tokens: Verifier, authorization: str) -> str:
    claims = await tokens.claims(authorization)
    assert claims is not None
    return str(claims["sub"])


class Users:
    """Signs, and shows its keys; counts how often it was asked."""

    def __init__(self) -> None:
        self.private = {"k1": Ed25519PrivateKey.generate()}
        self.asked = 0
        self.up = True

    def token(self, kid: str = "k1", **claims: Any) -> str:
        key = self.private.get(kid) or Ed25519PrivateKey.generate()
        wanted = CLAIMS | {"exp": time.time() + 60} | claims
        said = {name: value for name, value in wanted.items() if value is not None}
        return "Bearer " + jwt.encode(said, key, "EdDSA", headers={"kid": kid})

    async def keys(self) -> Mapping[str, Any]:
        self.asked += 1
        if not self.up:
            raise httpx.ConnectError("away")
        to_jwk = jwt.algorithms.OKPAlgorithm.to_jwk
        return {"keys": [to_jwk(key.public_key(), as_dict=True) | {"kid": kid} for kid, key in self.private.items()]}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def refusal(tokens: Verifier, authorization: str) -> int:
    with pytest.raises(Problem) as caught:
        await tokens.claims(authorization)
    return caught.value.status


async def test_a_token_says_who_asks_and_keys_are_asked_for_once() -> None:
    users = Users()
    tokens = verifier(users.keys)
    assert await asyncio.gather(*(who(tokens, users.token()) for _ in range(5))) == ["7"] * 5
    assert users.asked == 1
    assert await tokens.claims(None) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"iss": "other"},
        {"aud": "other"},
        {"sub": None},
    ],
    ids=str,
)
async def test_a_token_that_is_not_for_us_is_refused(claims: dict[str, Any]) -> None:
    users = Users()
    assert await refusal(verifier(users.keys), users.token(**claims)) == 401


async def test_a_token_signed_by_somebody_else_or_in_another_way_is_refused() -> None:
    users, other = Users(), Users()
    tokens = verifier(users.keys)
    assert await refusal(tokens, other.token()) == 401
    shared = jwt.encode(CLAIMS | {"exp": time.time() + 60}, "x" * 32, "HS256", headers={"kid": "k1"})
    unsigned = jwt.encode(CLAIMS | {"exp": time.time() + 60}, None, "none", headers={"kid": "k1"})
    assert [await refusal(tokens, f"Bearer {token}") for token in (shared, unsigned)] == [401, 401]


async def test_a_new_key_is_asked_for_and_made_up_ones_not_again_and_again() -> None:
    users, clock = Users(), Clock()
    tokens = verifier(users.keys, clock=clock)
    await tokens.claims(users.token())
    clock.now += ASK_AGAIN_S
    assert [await refusal(tokens, users.token("made up")) for _ in range(3)] == [401, 401, 401]
    assert users.asked == 2
    users.private["k2"] = Ed25519PrivateKey.generate()
    clock.now += ASK_AGAIN_S
    assert await who(tokens, users.token("k2")) == "7"
    assert users.asked == 3


async def test_known_keys_hold_while_user_service_is_away_and_unknown_ones_are_a_503() -> None:
    users, clock = Users(), Clock()
    tokens = verifier(users.keys, clock=clock)
    users.up = False
    assert await refusal(tokens, users.token()) == 503
    users.up = True
    assert await refusal(tokens, users.token()) == 503, "it is asked again, but not at once"
    clock.now += ASK_AGAIN_S
    assert await who(tokens, users.token()) == "7"
    users.up = False
    clock.now += TRUSTED_S + 1
    assert await who(tokens, users.token()) == "7"
    assert await refusal(tokens, users.token("k2")) == 503


async def test_a_key_that_was_withdrawn_is_forgotten() -> None:
    users, clock = Users(), Clock()
    tokens = verifier(users.keys, clock=clock)
    old = users.token()
    await tokens.claims(old)
    users.private = {"k2": Ed25519PrivateKey.generate()}
    assert await who(tokens, old) == "7"
    clock.now += TRUSTED_S + 1
    assert await refusal(tokens, old) == 401


@asynccontextmanager
async def serving(body: str) -> AsyncIterator[str]:
    """The URL of a server that says that and nothing else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /.well-known/jwks.json ")
        writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_keys_come_over_http() -> None:
    users = Users()
    async with serving(json.dumps(await users.keys())) as url:
        tokens = verifier(url=url)
        assert await who(tokens, users.token()) == "7"
    assert await who(tokens, users.token()) == "7", "asked for once"


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"keys": [{}]}', '{"keys": [{"kid": "k1", "kty": "?"}]}'])
async def test_what_is_no_key_set_is_as_good_as_none(body: str) -> None:
    async with serving(body) as url:
        assert await refusal(verifier(url=url), Users().token()) == 503
