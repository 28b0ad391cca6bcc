"""The SQL that README and docs show runs as it stands, against a migrated database."""

from __future__ import annotations

import psycopg
import pytest

from tests.unit.test_docs import fenced

SHOWN = list(fenced("sql"))


def test_there_is_sql_to_try() -> None:
    """The test below is not empty."""
    assert len(SHOWN) > 10


@pytest.mark.parametrize(
    ("page", "statements"), SHOWN, ids=[f"{page}-{n}" for n, (page, _) in enumerate(SHOWN)]
)
def test_statements_run(database_url: str, page: str, statements: str) -> None:
    """Every block, as a reader would paste it; nothing of it is kept."""
    with psycopg.connect(database_url) as conn:
        conn.execute(statements.encode())
        conn.rollback()
