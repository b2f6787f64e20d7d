"""Passwords, by argon2id."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# 19 MiB and two passes, as OWASP's cheat sheet has it: some 20 ms.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Apart from the event loop, and no more than two at a time: a crowd that logs in takes neither all memory nor all CPUs.
_threads = ThreadPoolExecutor(2, thread_name_prefix="argon2")
_NOBODY = _hasher.hash("")


async def hashed(password: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def matches(password: str, stored: str | None) -> bool:
    """None, for nobody, takes as long as a wrong password: the time of an answer does not tell who has an account."""
    right = await asyncio.get_running_loop().run_in_executor(_threads, _verified, stored or _NOBODY, password)
    return right and stored is not None


def outdated(stored: str) -> bool:
    """Whether it was made with other parameters than those of today."""
    return _hasher.check_needs_rehash(stored)


def _verified(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
