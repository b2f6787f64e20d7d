"""Who asks, by the tokens of user-service.

user = await Identity().user(request.headers.get("authorization"))    # None: nobody says who they are
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from shoal.sdk import tokens

ISSUER = "user-service"
AUDIENCE = "shop"
ALGORITHM = "EdDSA"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: int
    name: str
    roles: frozenset[str]


class Identity(tokens.Verifier):
    """`url`: of user-service, by default its name. `fetch`: another way to its keys."""

    def __init__(self, url: str | None = None, *, fetch: tokens.Fetch | None = None) -> None:
        where = url or os.environ.get("USER_SERVICE_URL", "http://user-service:3000")
        super().__init__(where, issuer=ISSUER, audience=AUDIENCE, algorithms=[ALGORITHM], fetch=fetch)

    async def user(self, authorization: str | None) -> User | None:
        """Problem 401: there is a token, and it is not, or no longer, good. 503: its key cannot be had now."""
        claims = await self.claims(authorization)
        if claims is None:
            return None
        try:
            return User(id=int(claims["sub"]), name=str(claims["name"]), roles=frozenset(claims["roles"]))
        except (KeyError, TypeError, ValueError):
            raise tokens.refused("the token does not say who its user is") from None
