"""Who asks: tokens (JWT) of another service, checked with the public keys that it shows.

    tokens = Verifier("http://user-service:3000", issuer="user-service", audience="shop")
    claims = await tokens.claims(request.headers.get("authorization"))      # None: nobody says who they are

The keys are a JSON Web Key Set at `/.well-known/jwks.json`, asked for once and again for a key that is new, so that its
owner may change them at any time. Needs httpx and pyjwt[crypto].
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx
import jwt

from shoal.sdk.problems import Problem

PATH = "/.well-known/jwks.json"
ASK_AGAIN_S = 5.0
"""Unknown keys, which anybody can make up, cause no more than one request in that time. So a key has to be shown for
longer before it signs anything."""
TRUSTED_S = 600.0
"""How long a key that was withdrawn is believed."""

Fetch = Callable[[], Awaitable[Mapping[str, Any]]]


class Verifier:
    """`url`: of the service that signs. `issuer` and `audience`: what `iss` and `aud` of a token must be. `fetch`:
    another way to the keys."""

    def __init__(
        self,
        url: str,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str] = ("EdDSA", "ES256"),
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._issuer, self._audience, self._algorithms = url, issuer, audience, list(algorithms)
        self._fetch, self._clock = fetch or self._ask, clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = self._trusted_at = float("-inf")
        self._asking = asyncio.Lock()

    async def claims(self, authorization: str | None) -> Mapping[str, Any] | None:
        """By the value of the header `Authorization`. Problem 401: there is a token, and it is not, or no longer, good.
        503: its key cannot be had now."""
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise refused("send 'Authorization: Bearer TOKEN'")
        try:
            kid = str(jwt.get_unverified_header(token).get("kid"))
        except jwt.PyJWTError:
            raise self._strange() from None
        key = await self._key(kid)
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise refused("the token has expired; log in again") from None
        except (jwt.PyJWTError, TypeError, ValueError):
            raise self._strange() from None
        return claims

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
            # Old ones too, while it is away: an hour without it logs nobody out.
            return self._keys[kid]
        if self._asked_at != self._trusted_at:
            away = f"{self._issuer} does not tell the keys of its tokens"
            raise Problem(503, detail=away, headers={"Retry-After": "5"})
        raise refused(f"the token is signed with a key that {self._issuer} does not have")

    async def _refresh(self) -> None:
        self._asked_at = self._clock()
        try:
            self.trust(await self._fetch())
        except (httpx.HTTPError, ValueError):
            pass  # those that are known hold; see `_key` for the others

    async def _ask(self) -> Mapping[str, Any]:
        # trust_env off: the HTTP_PROXY of whoever started the app knows nothing of its names.
        async with httpx.AsyncClient(base_url=self._url, timeout=2.0, trust_env=False) as client:
            answer = await client.get(PATH)
            answer.raise_for_status()
            keys: Mapping[str, Any] = answer.json()
            return keys

    def _strange(self) -> Problem:
        return refused(f"the token is not one of {self._issuer}'s")


def refused(why: str) -> Problem:
    return Problem(401, detail=why, headers={"WWW-Authenticate": "Bearer"})
