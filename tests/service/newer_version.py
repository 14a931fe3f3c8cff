"""A version of the package after this one, whose tables have what this one knows nothing of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import batch_gateway
from batch_gateway.service.migrate import NEWEST

__all__ = ["NEXT", "migrate_with_the_next_version"]

NEXT = f"{int(NEWEST) + 1:04}"

_STEP = f'''
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{NEWEST}"


def upgrade() -> None:
    op.add_column("batches", sa.Column("colour", sa.Text()))
    op.create_table("colours", sa.Column("name", sa.Text(), primary_key=True))
    op.create_index("batches_by_colour", "batches", ["colour"])
'''


def migrate_with_the_next_version(folder: Path, *place: object) -> None:
    """As its `batch-gateway migrate` does; `place` is what the command is told of it."""
    package = folder / "next" / "batch_gateway"
    shutil.copytree(Path(batch_gateway.__file__).parent, package)
    service = package / "service"
    (service / "migrations" / "versions" / f"{NEXT}_colours.py").write_text(_STEP)
    source = (service / "migrate.py").read_text()
    assert source.count(f'"{NEWEST}"') == 1
    (service / "migrate.py").write_text(source.replace(f'"{NEWEST}"', f'"{NEXT}"'))
    command = [sys.executable, "-m", "batch_gateway", "migrate", *map(str, place)]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"up to date ({NEXT})" in done.stderr
