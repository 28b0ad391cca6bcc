"""One module per revision; what each does is in `migrations/sql/`."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy import text

_FILES = Path(__file__).parent.parent / "sql"


def run(name: str) -> None:
    """Execute one SQL file; colons are escaped, since none of them is a bind parameter."""
    op.execute(text((_FILES / name).read_text(encoding="utf-8").replace(":", "\\:")))
