"""Runs of what was submitted over /submit."""

from __future__ import annotations

from migrations.versions import run

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Let work be triggered by a submission."""
    run("0005_up.sql")


def downgrade() -> None:
    """As before; fails while submissions wait, which nothing else could run."""
    run("0005_down.sql")
