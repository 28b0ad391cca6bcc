"""${message}"""

from __future__ import annotations

revision = ${repr(up_revision)}
down_revision: str | None = ${repr(down_revision)}


def upgrade() -> None:
    """Say what it promises, locks and fences."""


def downgrade() -> None:
    """The way back."""
