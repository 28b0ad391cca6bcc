"""The pool after the server went away under connections that nobody was using."""

from __future__ import annotations

from select import POLLIN, poll

from engine import db
from engine.db import Connection
from tests.factories import rows
from tests.polling import poll_until
from tests.processes import settings_for


async def test_a_connection_that_was_closed_meanwhile_is_replaced_unseen(
    database_url: str, conn: Connection
) -> None:
    """Whoever asks first after a restart of the server gets a new connection instead of an error."""
    async with db.pool(settings_for(database_url), "test") as pool:
        async with db.connection(pool) as idle:
            before = idle.info.backend_pid
        heard = poll()
        heard.register(idle.fileno(), POLLIN)
        await rows(conn, "SELECT pg_terminate_backend(%s)", before)
        await poll_until(lambda: heard.poll(0))
        async with db.connection(pool) as fresh:
            assert fresh.info.backend_pid != before
            assert [row["n"] for row in await rows(fresh, "SELECT 1 AS n")] == [1]
