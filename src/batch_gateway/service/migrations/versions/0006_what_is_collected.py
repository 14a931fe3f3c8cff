"""What is looked for to be removed is found without a look at everything else."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    not_stored = sa.text("state <> 'stored'")
    op.create_index(
        "files_not_stored", "files", ["state", "created_at"], postgresql_where=not_stored
    )
    op.create_index("batches_by_age", "batches", ["created_at"])
