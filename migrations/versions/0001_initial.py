"""The first schema: definitions, ledger, rotating queue, history, views, the reader's role."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision: str | None = None
FILES = Path(__file__).parent.parent / "sql"


def run(name: str) -> None:
    """Execute one SQL file; colons are escaped, since none of them is a bind parameter."""
    op.execute(text((FILES / name).read_text(encoding="utf-8").replace(":", "\\:")))


def upgrade() -> None:
    """Create everything."""
    run("0001_tables.sql")
    run("0001_views.sql")


def downgrade() -> None:
    """Remove everything but the schema itself, which holds Alembic's own table."""
    run("0001_down.sql")
