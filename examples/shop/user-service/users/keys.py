"""The keys that tokens are signed with. They lie in the database, and all replicas use the same ones.

    made_at ── seen by others ── signs_from ── signs ── the next one's signs_from ── believed ── + TOKEN_LIFE_S: deleted

A key is shown for a while before it signs: whoever has just asked for the keys, and does not ask again so soon, knows
it when the first token comes (see `identity.ASK_AGAIN_S`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from itertools import pairwise

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from shoal.sdk.tokens import ASK_AGAIN_S
from users.identity import ALGORITHM, AUDIENCE, ISSUER
from users.models import SigningKey, User

TOKEN_LIFE_S = 3600
KEY_LIFE_S = 24 * 3600.0
SEEN_FIRST_S = 2 * ASK_AGAIN_S
_CLOCKS_S = 60.0
"""How far the clocks of two machines may be apart."""
_AT_ONCE = 0.0
"""For a key that has none before it, also to a replica whose clock is behind."""


async def sign(session: AsyncSession, user: User, now: float | None = None) -> str:
    """A token for that user. Makes the key of the day, when it is the first to need it."""
    now = time.time() if now is None else now
    keys = await _with_todays(session, now)
    key = next(key for key in reversed(keys) if key.signs_from <= now)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(user.id), "name": user.name, "roles": user.roles}
    times = {"iat": int(now), "exp": int(now) + TOKEN_LIFE_S}
    return jwt.encode(claims | times, key.private_key, ALGORITHM, headers={"kid": key.kid})


async def public(session: AsyncSession, now: float | None = None) -> dict[str, list[dict[str, str]]]:
    """A JSON Web Key Set of all keys that a token of today may be signed with."""
    now = time.time() if now is None else now
    return {"keys": [_shown(key) for key in _believed(await _with_todays(session, now), now)]}


async def rotate(session: AsyncSession, now: float | None = None, *, revoke: bool = False) -> SigningKey:
    """The next key, now. `revoke`: and those before it are believed no more; it signs at once."""
    now = time.time() if now is None else now
    if revoke:
        last = await session.scalar(select(SigningKey.serial).order_by(SigningKey.serial.desc()).limit(1))
        await session.execute(delete(SigningKey))
        return await _add(session, (last or 0) + 1, now, _AT_ONCE)
    return (await _next(session, await _all(session), now))[-1]


async def _with_todays(session: AsyncSession, now: float) -> Sequence[SigningKey]:
    """The oldest first; one of them signs."""
    keys = await _all(session)
    if keys and now < keys[-1].made_at + KEY_LIFE_S:
        return keys
    return await _next(session, keys, now)


async def _next(session: AsyncSession, keys: Sequence[SigningKey], now: float) -> Sequence[SigningKey]:
    serial, signs_from = (keys[-1].serial + 1, now + SEEN_FIRST_S) if keys else (1, _AT_ONCE)
    believed = {key.serial for key in _believed(keys, now)}
    try:
        async with session.begin_nested():
            await _add(session, serial, now, signs_from)
            gone = [key.serial for key in keys if key.serial not in believed]
            await session.execute(delete(SigningKey).where(SigningKey.serial.in_(gone)))
    except IntegrityError:
        pass  # another replica was faster: there is a key of today
    return await _all(session)


async def _add(session: AsyncSession, serial: int, now: float, signs_from: float) -> SigningKey:
    private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = SigningKey(
        serial=serial, kid=secrets.token_hex(8), private_key=private.decode(), made_at=now, signs_from=signs_from
    )
    session.add(key)
    await session.flush()
    return key


async def _all(session: AsyncSession) -> Sequence[SigningKey]:
    wanted = select(SigningKey).order_by(SigningKey.serial).execution_options(populate_existing=True)
    return (await session.scalars(wanted)).all()


def _believed(keys: Sequence[SigningKey], now: float) -> list[SigningKey]:
    """Those that sign or will, and those whose last token still lives."""
    stopped = [key for key, following in pairwise(keys) if now >= following.signs_from + TOKEN_LIFE_S + _CLOCKS_S]
    return [key for key in keys if key not in stopped]


def _shown(key: SigningKey) -> dict[str, str]:
    private = jwt.get_algorithm_by_name(ALGORITHM).prepare_key(key.private_key)
    shown = jwt.algorithms.OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return shown | {"kid": key.kid, "alg": ALGORITHM, "use": "sig"}
