"""The audit log is chained by hash, so that a change of what was written is found."""

from __future__ import annotations

from migrations.versions import run

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Add the seals; lines that are there already are sealed by the first rounds."""
    run("0004_up.sql")


def downgrade() -> None:
    """Take the seals away; the lines stay."""
    run("0004_down.sql")
