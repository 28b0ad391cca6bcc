"""What came after the first schema: checks that keep one spoilt row from stopping a tick, limits of tools, waits."""

from __future__ import annotations

from migrations.versions import run

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Add to what 0001 made."""
    run("0002_up.sql")


def downgrade() -> None:
    """Take away what 0002 added."""
    run("0002_down.sql")
