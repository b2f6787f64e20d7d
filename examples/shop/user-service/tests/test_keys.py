"""Time is an argument: no test waits for a key to grow old."""

from __future__ import annotations

import asyncio

import httpx
import jwt
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from users import keys, rotate
from users.models import User

from shoal.sdk import database
from shoal.sdk.tokens import ASK_AGAIN_S

pytestmark = pytest.mark.anyio
DAY_S = 24 * 3600.0
ANN = User(id=1, name="Ann", roles=[])


class Replica:
    """One of several on the same database."""

    def __init__(self) -> None:
        self.engine = database.engine()

    async def signs_with(self, now: float) -> str:
        async with AsyncSession(self.engine) as session, session.begin():
            return str(jwt.get_unverified_header(await keys.sign(session, ANN, now))["kid"])

    async def shows(self, now: float) -> list[str]:
        async with AsyncSession(self.engine) as session, session.begin():
            return [key["kid"] for key in (await keys.public(session, now))["keys"]]

    async def rotates(self, now: float) -> str:
        async with AsyncSession(self.engine) as session, session.begin():
            return (await keys.rotate(session, now)).kid


async def test_a_new_key_is_made_each_day_and_seen_before_it_signs() -> None:
    replica = Replica()
    first = await replica.signs_with(0.0)
    assert await replica.signs_with(DAY_S - 1) == first
    assert await replica.signs_with(DAY_S) == first
    shown = await replica.shows(DAY_S)
    assert shown[0] == first and len(shown) == 2
    second = shown[1]
    assert await replica.signs_with(DAY_S + ASK_AGAIN_S) == first, "who has just asked for the keys may not know it yet"
    assert await replica.signs_with(DAY_S + keys.SEEN_FIRST_S) == second
    await replica.engine.dispose()


async def test_a_key_is_shown_as_long_as_its_last_token_lives_and_then_deleted() -> None:
    replica = Replica()
    first = await replica.signs_with(0.0)
    (_, second) = await replica.shows(DAY_S)
    last_token_ends = DAY_S + keys.SEEN_FIRST_S + keys.TOKEN_LIFE_S
    assert await replica.shows(last_token_ends) == [first, second]
    assert await replica.shows(last_token_ends + 61) == [second]
    third = await replica.rotates(DAY_S + DAY_S / 2)
    async with AsyncSession(replica.engine) as session, session.begin():
        assert [key.kid for key in await keys._all(session)] == [second, third], "a private key is not kept for nothing"
    await replica.engine.dispose()


async def test_replicas_that_need_a_key_at_once_agree_on_one() -> None:
    replicas = [Replica() for _ in range(3)]
    for now in (0.0, DAY_S):
        await asyncio.gather(*(replica.signs_with(now) for replica in replicas))
    shown = [await replica.shows(DAY_S) for replica in replicas]
    assert shown[0] == shown[1] == shown[2] and len(shown[0]) == 2
    for replica in replicas:
        await replica.engine.dispose()


async def test_a_replica_whose_clock_is_behind_signs_with_the_first_key() -> None:
    one, other = Replica(), Replica()
    assert await one.signs_with(100.0) == await other.signs_with(99.0)
    for replica in (one, other):
        await replica.engine.dispose()


async def test_a_key_that_leaked_is_revoked(client: httpx.AsyncClient) -> None:
    replica = Replica()
    (leaked,) = await replica.shows(0.0)
    kid = await rotate.run(revoke=True)
    assert [key["kid"] for key in (await client.get("/.well-known/jwks.json")).json()["keys"]] == [kid] != [leaked]
    assert await replica.signs_with(0.0) == kid
    await replica.engine.dispose()


def test_a_key_is_rotated_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert rotate.main([]) == 0
    assert rotate.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len({line.split()[1] for line in lines}) == 2
    assert lines[1].endswith("signs in 10 s")
