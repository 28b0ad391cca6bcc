"""LISTEN: how workers and streams hear of new work at once. Polling stays the truth.

One connection outside the pool, reopened by its service's next round after a failure; a lost notification
costs latency only. Behind PgBouncer in transaction mode LISTEN does not work: `poll_only` does without.
"""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from engine import db

WORK = "duework_work"
CANCEL = "duework_cancel"
REQUEST = "duework_request"


class Notifier:
    """Calls `on_notice(channel, payload)` for each notification on `channels` until stopped."""

    def __init__(self, url: str, channels: tuple[str, ...], on_notice: Callable[[str, str], None]) -> None:
        self.url = url
        self.channels = channels
        self.on_notice = on_notice

    async def listen(self) -> None:
        """Listen until the connection breaks; raises then, so that the service around it paces the reopening."""
        conn = await db.connect(self.url, "listen")
        async with conn:
            for channel in self.channels:
                await conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            # Whatever was committed before LISTEN took effect was not notified to us.
            for channel in self.channels:
                self.on_notice(channel, "")
            async for notice in conn.notifies():
                self.on_notice(notice.channel, notice.payload)
