"""What applications ask for by SQL, in transactions of their own."""

from __future__ import annotations

from migrations.versions import run

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Add the requests, and the functions that make them."""
    run("0003_up.sql")


def downgrade() -> None:
    """Take them away, with every request that no worker has looked at."""
    run("0003_down.sql")
