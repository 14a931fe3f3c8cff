"""What is in a part: a checksum, the tokens that are counted of it, and its lines by model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_COUNTS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def upgrade() -> None:
    op.add_column("parts", sa.Column("checksum", sa.BigInteger()))
    op.add_column("parts", sa.Column("models", sa.Text()))
    for name in _COUNTS:
        count = sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))
        op.add_column("parts", count)
