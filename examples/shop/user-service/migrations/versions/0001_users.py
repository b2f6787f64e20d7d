"""Users, the keys of their tokens, and the events that tell of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shoal.sdk import tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("email", sa.String(254), nullable=False, unique=True),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        # SQLite would give the id of a user who was deleted to the next one, and with it that user's tokens.
        sqlite_autoincrement=True,
    )
    op.create_table(
        "signing_keys",
        sa.Column("serial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kid", sa.String(32), nullable=False, unique=True),
        sa.Column("private_key", sa.Text, nullable=False),
        sa.Column("made_at", sa.Float(53), nullable=False),
        sa.Column("signs_from", sa.Float(53), nullable=False),
    )
    tables.create(op.get_bind(), "outbox")


def downgrade() -> None:
    tables.drop(op.get_bind(), "outbox")
    op.drop_table("signing_keys")
    op.drop_table("users")
