"""Who asks: the tokens of user-service, checked with the public keys that it shows at /.well-known/jwks.json.

    identity = Identity()
    user = await identity.user(request.headers.get("authorization"))    # None: nobody says who they are

Each service has a copy of this file: services share interfaces, not code.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from shoal.sdk.problems import Problem

ISSUER = "user-service"
AUDIENCE = "shop"
ALGORITHM = "EdDSA"
USERS = "http://user-service:3000"
ASK_AGAIN_S = 5.0
"""Unknown keys, which anybody can make up, cause no more than one request in that time. A key of user-service's is seen
for longer before it signs anything, so that no good token is refused meanwhile."""
TRUSTED_S = 600.0
"""How long a key that was withdrawn is believed."""

Fetch = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: int
    name: str
    roles: frozenset[str]


class Identity:
    """`url`: of user-service, by default its name. `fetch`: another way to its keys, a JSON Web Key Set."""

    def __init__(
        self, url: str | None = None, *, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url, self._fetch, self._clock = url, fetch or self._ask, clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = self._trusted_at = float("-inf")
        self._asking = asyncio.Lock()

    async def user(self, authorization: str | None) -> User | None:
        """By the header's value. Problem 401: there is a token, and it is not, or no longer, good. 503: its key cannot
        be had now."""
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise refused("send 'Authorization: Bearer TOKEN'")
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid")))
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            return User(id=int(claims["sub"]), name=str(claims["name"]), roles=frozenset(claims["roles"]))
        except jwt.ExpiredSignatureError:
            raise refused("the token has expired; log in again") from None
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            raise refused("the token is not one of user-service's") from None

    def trust(self, key_set: Mapping[str, Any]) -> None:
        """These keys and no others. ValueError: it is no JSON Web Key Set."""
        try:
            self._keys = {key["kid"]: jwt.PyJWK(key) for key in key_set["keys"]}
        except (jwt.PyJWTError, KeyError, TypeError) as error:
            raise ValueError(f"no JSON Web Key Set: {error!r}") from error
        self._asked_at = self._trusted_at = self._clock()

    async def _key(self, kid: str) -> jwt.PyJWK:
        stale = self._clock() - self._trusted_at > TRUSTED_S
        # One request looks for news of the keys that are known; the others do not wait for it.
        if kid not in self._keys or (stale and not self._asking.locked()):
            async with self._asking:
                if self._clock() - self._asked_at >= ASK_AGAIN_S:
                    await self._refresh()
        if kid in self._keys:
            # Old ones too, while user-service is away: an hour without it logs nobody out.
            return self._keys[kid]
        if self._asked_at != self._trusted_at:
            raise Problem(503, detail="user-service does not tell the keys of its tokens", headers={"Retry-After": "5"})
        raise refused("the token is signed with a key that user-service does not have")

    async def _refresh(self) -> None:
        self._asked_at = self._clock()
        try:
            self.trust(await self._fetch())
        except (httpx.HTTPError, ValueError):
            pass  # those that are known hold; see `_key` for the others

    async def _ask(self) -> Mapping[str, Any]:
        # trust_env off: the HTTP_PROXY of whoever started the shop knows nothing of its names.
        async with httpx.AsyncClient(base_url=self._url or await _found(), timeout=2.0, trust_env=False) as client:
            answer = await client.get("/.well-known/jwks.json")
            answer.raise_for_status()
            keys: Mapping[str, Any] = answer.json()
            return keys


def refused(why: str) -> Problem:
    return Problem(401, detail=why, headers={"WWW-Authenticate": "Bearer"})


async def _found() -> str:
    """By name; by the variable where names cannot work (see `shoal doctor`)."""
    try:
        await asyncio.get_running_loop().getaddrinfo("user-service", 3000)
    except OSError:
        return os.environ.get("USER_SERVICE_URL", USERS)
    return USERS
