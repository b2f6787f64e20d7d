"""The file that each service has a copy of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from users.identity import ALGORITHM, AUDIENCE, ISSUER, Identity, User

from shoal.sdk.problems import Problem

pytestmark = pytest.mark.anyio
KEY = Ed25519PrivateKey.generate()


async def keys() -> Mapping[str, Any]:
    return {"keys": [jwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True) | {"kid": "k1"}]}


def token(**claims: Any) -> str:
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "7", "name": "Ann", "roles": ["staff"], "exp": time.time() + 60}
    kept = {name: value for name, value in (said | claims).items() if value is not None}
    return "Bearer " + jwt.encode(kept, KEY, ALGORITHM, headers={"kid": "k1"})


async def test_a_token_says_who_asks() -> None:
    identity = Identity(fetch=keys)
    assert await identity.user(token()) == User(id=7, name="Ann", roles=frozenset({"staff"}))
    assert await identity.user(None) is None


@pytest.mark.parametrize("claims", [{"sub": "x"}, {"name": None}, {"roles": 1}, {"aud": "other"}], ids=str)
async def test_a_token_that_does_not_say_it_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        await Identity(fetch=keys).user(token(**claims))
    assert caught.value.status == 401
