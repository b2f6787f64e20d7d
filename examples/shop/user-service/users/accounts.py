"""Accounts: made, asked for, and erased."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from shoal.sdk.database import Transactions
from shoal.sdk.problems import Problem
from users import passwords
from users.models import User, outbox


async def register(db: Transactions, *, name: str, email: str, password: str) -> User:
    """Problem 409: the e-mail address has an account."""
    user = User(name=name, email=email.lower(), password_hash=await passwords.hashed(password))
    try:
        async with db.begin() as session:
            session.add(user)
    except IntegrityError:
        raise Problem(409, "E-mail taken", type="email-taken", detail=f"{email} has an account; log in") from None
    return user


async def log_in(db: Transactions, *, email: str, password: str) -> User:
    """Problem 401, which does not say what was wrong."""
    user = await by_email(db, email)
    # No transaction is open meanwhile: the database need not wait for argon2.
    if not await passwords.matches(password, user.password_hash if user else None) or user is None:
        raise Problem(401, "Wrong e-mail or password", type="wrong-credentials", headers={"WWW-Authenticate": "Bearer"})
    if passwords.outdated(user.password_hash):
        renewed = await passwords.hashed(password)
        async with db.begin() as session:
            await session.execute(
                update(User)
                .where(User.id == user.id, User.password_hash == user.password_hash)
                .values(password_hash=renewed)
            )
    return user


async def by_email(db: Transactions, email: str) -> User | None:
    async with db.begin() as session:
        found: User | None = await session.scalar(select(User).where(User.email == email.lower()))
        return found


async def by_id(db: Transactions, user_id: int) -> User | None:
    async with db.begin() as session:
        return await session.get(User, user_id)


async def erase(db: Transactions, user_id: int) -> None:
    """The row goes, and in the same transaction all who know the user are told. Nobody is told twice."""
    async with db.begin() as session:
        if await session.scalar(delete(User).where(User.id == user_id).returning(User.id)) is not None:
            await outbox.add(session, type="user.deleted", subject=str(user_id), data={"user_id": user_id})
