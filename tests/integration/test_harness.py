"""The test harness itself: a database per test, and nothing left behind."""

from __future__ import annotations

import psycopg
import pytest

from engine import db
from tests import postgres
from tests.polling import poll_until


@pytest.mark.parametrize("round_", [1, 2])
async def test_each_test_has_a_migrated_database_of_its_own(conn: db.Connection, round_: int) -> None:
    """What one test writes is not seen by the next."""
    found = await (await conn.execute("SELECT to_regclass('duework.only_here') AS found")).fetchone()
    assert found == {"found": None}
    assert await (await conn.execute("SELECT version_num FROM duework.alembic_version")).fetchone()
    await conn.execute("CREATE TABLE duework.only_here ()")


def test_an_empty_database_is_not_migrated(empty_database_url: str) -> None:
    """Migration tests begin from nothing."""
    with psycopg.connect(empty_database_url) as conn:
        assert conn.execute("SELECT to_regnamespace('duework')").fetchone() == (None,)


def test_a_database_is_dropped_while_somebody_is_connected(server_url: str) -> None:
    """A test that leaks a connection does not keep its database alive."""
    with postgres.database(server_url) as url:
        leaked = postgres.connect(url)
    with pytest.raises(psycopg.OperationalError):
        leaked.execute("SELECT 1")
    leaked.close()


async def test_polling_returns_the_first_true_answer_and_gives_up_in_words() -> None:
    """`poll_until` answers with the value, and its failure names the condition and the last answer."""
    answers = iter([0, 0, 7])
    assert await poll_until(lambda: next(answers)) == 7
    with pytest.raises(AssertionError, match="last answer was 0"):
        await poll_until(lambda: 0, timeout=0)
