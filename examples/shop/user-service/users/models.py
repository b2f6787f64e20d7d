"""What the database holds."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, DateTime, Float, String, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shoal.sdk.outbox import Outbox

ROLES = frozenset({"staff"})
"""What a user can be made by `python -m users.grant`. `staff` looks after the catalogue."""


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    # SQLite would give the id of a user who was deleted to the next one, and with it that user's tokens.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - as SQLAlchemy wants it

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(254), unique=True)
    """In small letters: nobody has two accounts by writing it in another way."""
    password_hash: Mapped[str] = mapped_column(String(255))
    roles: Mapped[list[str]] = mapped_column(JSON, default=list)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class SigningKey(Base):
    """See `keys`. Times are seconds of the epoch."""

    __tablename__ = "signing_keys"

    serial: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """One more than that of the key before: of two replicas that make the next one, one is refused."""
    kid: Mapped[str] = mapped_column(String(32), unique=True)
    private_key: Mapped[str] = mapped_column(Text)
    """PEM."""
    made_at: Mapped[float] = mapped_column(Float(53))
    signs_from: Mapped[float] = mapped_column(Float(53))


outbox = Outbox("user-service", metadata=Base.metadata)
