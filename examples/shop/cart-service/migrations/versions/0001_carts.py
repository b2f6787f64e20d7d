"""Carts, orders, payments, and our own copy of the products' names and prices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shoal.sdk import tables

revision = "0001"
down_revision = None

LIVE = sa.text("status IN ('pending', 'paid')")
UNFINISHED = sa.text("status IN ('pending', 'cancelling')")


def upgrade() -> None:
    op.create_table(
        "customers",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("erased", sa.Boolean, nullable=False),
    )
    op.create_table(
        "known_products",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("price_minor", sa.Integer, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "carts",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.Integer, index=True),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
    )
    op.create_table(
        "cart_items",
        sa.Column("cart_id", sa.String(36), sa.ForeignKey("carts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("product_id", sa.Integer, sa.ForeignKey("known_products.id"), primary_key=True),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.CheckConstraint("quantity > 0", name="quantity_is_positive"),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("cart_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.Integer),
        sa.Column("idempotency_key", sa.String(200)),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("ship_to", sa.Text),
        sa.Column("total_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
    )
    for name, columns, unique, where in (
        ("one_live_order_of_a_cart", ["cart_id"], True, LIVE),
        ("one_live_order_of_a_key", ["user_id", "idempotency_key"], True, LIVE),
        ("unfinished_orders", ["created_at"], False, UNFINISHED),
    ):
        op.create_index(name, "orders", columns, unique=unique, postgresql_where=where, sqlite_where=where)
    op.create_table(
        "order_lines",
        sa.Column("order_id", sa.String(36), sa.ForeignKey("orders.id"), primary_key=True),
        sa.Column("product_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("price_minor", sa.Integer, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
    )
    op.create_table(
        "payments",
        sa.Column("order_id", sa.String(36), sa.ForeignKey("orders.id"), primary_key=True),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("paid_at", sa.Float(53), nullable=False),
    )
    tables.create(op.get_bind(), "outbox", "inbox", "idempotency")


def downgrade() -> None:
    tables.drop(op.get_bind(), "outbox", "inbox", "idempotency")
    for name in ("payments", "order_lines", "orders", "cart_items", "carts", "known_products", "customers"):
        op.drop_table(name)
