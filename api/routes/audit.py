"""/audit and /verdicts: who changed what, and what the gate said."""

from __future__ import annotations

from typing import Any

from api import cursors
from api.operations import CURSOR, INSTANT, LIMIT, Answer, Call, Operation, Parameter
from engine.db import Row
from engine.store import audit, verdicts


async def changes(call: Call) -> Answer:
    """The audit log, newest first."""
    place = cursors.decode(call.query["cursor"], call.query, int)
    rows = await audit.page(
        call.conn,
        before=place[0] if place else None,
        subject=call.query["subject"],
        limit=call.query["limit"] + 1,
    )
    return Answer(cursors.page(rows, call.query, lambda row: (row["id"],), _as_it_is))


async def judged(call: Call) -> Answer:
    """Verdicts, newest first: kinds and places, never values."""
    place = cursors.decode(call.query["cursor"], call.query, int)
    offset = place[0] if place else 0
    rows = await verdicts.page(
        call.conn,
        run_id=call.query["run_id"],
        since=call.query["since"],
        offset=offset,
        limit=call.query["limit"] + 1,
    )
    following = (offset + call.query["limit"],)
    return Answer(cursors.page(rows, call.query, lambda _: following, _as_it_is))


def _as_it_is(row: Row) -> dict[str, Any]:
    return row


OPERATIONS = (
    Operation(
        "GET", "/audit", changes, "audit", "The audit log", {200: "AuditPage"}, scope="audit:read",
        query=(
            Parameter(
                "subject",
                {"type": "string", "minLength": 1, "maxLength": 200},
                "Only changes of this, as `task:<id>`, `run:<id>`, `agent:<id>`, `event:<id>`.",
            ),
            CURSOR,
            LIMIT,
        ),
    ),
    Operation(
        "GET", "/verdicts", judged, "audit", "What the gate said", {200: "VerdictPage"}, scope="audit:read",
        query=(
            Parameter("run_id", {"type": "string", "format": "uuid"}, "Only verdicts about this run."),
            Parameter("since", INSTANT, "Only verdicts from here on."),
            CURSOR,
            LIMIT,
        ),
    ),
)  # fmt: skip
