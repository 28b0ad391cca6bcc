"""The first schema: definitions, ledger, rotating queue, history, views, the reader's role."""

from __future__ import annotations

from migrations.versions import run

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Create everything."""
    run("0001_tables.sql")
    run("0001_views.sql")


def downgrade() -> None:
    """Remove everything but the schema itself, which holds Alembic's own table."""
    run("0001_down.sql")
