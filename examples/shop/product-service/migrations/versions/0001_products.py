"""Products, and what is reserved of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shoal.sdk import tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "products",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sku", sa.String(40), unique=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("price_minor", sa.Integer, nullable=False),
        sa.Column("stock", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("folded", sa.Text, nullable=False),
        sa.CheckConstraint("price_minor >= 0", name="price_is_not_negative"),
        sa.CheckConstraint("stock >= 0", name="stock_is_not_negative"),
    )
    op.create_table(
        "reservations",
        sa.Column("order_id", sa.String(36), primary_key=True),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_table(
        "reservation_lines",
        sa.Column("order_id", sa.String(36), sa.ForeignKey("reservations.order_id"), primary_key=True),
        sa.Column("product_id", sa.Integer, sa.ForeignKey("products.id"), primary_key=True),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.CheckConstraint("quantity > 0", name="quantity_is_positive"),
    )
    tables.create(op.get_bind(), "outbox", "inbox")


def downgrade() -> None:
    tables.drop(op.get_bind(), "outbox", "inbox")
    op.drop_table("reservation_lines")
    op.drop_table("reservations")
    op.drop_table("products")
