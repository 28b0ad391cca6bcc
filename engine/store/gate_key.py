"""The key of the gate's digests (engine/reflex/digests.py): one for a database, made by its migration."""

from __future__ import annotations

import hashlib
import hmac

from sqlalchemy import select

from engine import db
from engine.db import Connection
from engine.errors import StoreUnavailable
from engine.settings import Settings
from engine.store.tables import gate_key


async def load(conn: Connection, settings: Settings) -> bytes:
    """32 bytes, the same in every process that has the same `reflex_key` and the same database.

    With a `reflex_key` the digests say nothing to whoever has a dump of the database alone. Raises StoreUnavailable
    where the row is gone.
    """
    rows = await db.select(conn, select(gate_key.c.key))
    if not rows:
        raise StoreUnavailable(
            "duework.gate_key is empty: put the row of a backup back, or `duework db migrate` anew"
        )
    key: bytes = bytes(rows[0]["key"])
    secret = settings.reflex_key.encode()
    return hmac.digest(secret, key, hashlib.sha256) if secret else key
