"""Gives a user a role: `python -m users.grant EMAIL ROLE`. It is in tokens from the next log-in on."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from shoal.sdk import database
from users.models import ROLES, User


async def grant(engine: AsyncEngine, email: str, role: str) -> bool:
    """False: nobody has that address."""
    async with AsyncSession(engine) as session, session.begin():
        user = await session.scalar(select(User).where(User.email == email.lower()).with_for_update())
        if user is None:
            return False
        user.roles = sorted({*user.roles, role})
        return True


async def run(email: str, role: str) -> bool:
    engine = database.engine()
    try:
        return await grant(engine, email, role)
    finally:
        await engine.dispose()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 no such user, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m users.grant", description="Gives a user a role.")
    parser.add_argument("email")
    parser.add_argument("role", choices=sorted(ROLES))
    arguments = parser.parse_args(argv)
    if not asyncio.run(run(arguments.email, arguments.role)):
        print(f"nobody is registered as {arguments.email}", file=sys.stderr)
        return 1
    print(f"{arguments.email} is {arguments.role} from the next log-in on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
