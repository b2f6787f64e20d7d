"""Makes a new key for tokens before its day: `python -m users.rotate [--revoke]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from shoal.sdk import database
from shoal.sdk.tokens import TRUSTED_S
from users import keys


async def run(*, revoke: bool) -> str:
    """The new key's id."""
    engine = database.engine()
    try:
        async with AsyncSession(engine) as session, session.begin():
            return (await keys.rotate(session, revoke=revoke)).kid
    finally:
        await engine.dispose()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m users.rotate", description="Makes a new key for tokens.")
    parser.add_argument(
        "--revoke",
        action="store_true",
        help=f"a key has leaked: tokens of the older ones are refused, within {TRUSTED_S / 60:.0f} minutes everywhere",
    )
    arguments = parser.parse_args(argv)
    kid = asyncio.run(run(revoke=arguments.revoke))
    print(f"key {kid} signs {'from now on' if arguments.revoke else f'in {keys.SEEN_FIRST_S:.0f} s'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
