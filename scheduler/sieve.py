"""What dedupe keys leave of a tick's plans: the instants for which another run stands become lines of the ledger.

A tick sifts its plans before it writes them, and closes the sieve afterwards, when the runs have their ids.
Tasks without a key are not looked at, and a tick without any costs no statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from engine.catchup import Plan
from engine.db import Connection, Row
from engine.store import dedupe
from engine.store.dedupe import Claim, Hold

Planned = tuple[Row, Plan, timedelta]
"""A locked task, its plan and its jitter."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """`plans` without the instants that are `refused`; `admitted` are the others of tasks with a key."""

    plans: Sequence[Planned]
    admitted: Sequence[Claim] = ()
    refused: Sequence[tuple[Claim, Hold]] = ()


def ahead(row: Row, horizon: timedelta) -> timedelta:
    """How far ahead a task's instants are written: not at all where the state of an earlier run decides."""
    return timedelta(0) if row["dedupe_key"] and row["dedupe_window"] is None else horizon


async def sift(conn: Connection, plans: Sequence[Planned]) -> Sifted:
    """Ask the dedupe keys about every planned instant."""
    claims = [claim for row, plan, _ in plans if row["dedupe_key"] for claim in _claims(row, plan)]
    if not claims:
        return Sifted(plans)
    answers = list(zip(claims, await dedupe.weigh(conn, claims), strict=True))
    refused = [(claim, hold) for claim, hold in answers if hold is not None]
    gone = {(claim.task_id, claim.at) for claim, _ in refused}
    left = [_without(one, gone) if one[0]["dedupe_key"] else one for one in plans]
    return Sifted(left, [claim for claim, hold in answers if hold is None], refused)


async def close(conn: Connection, sifted: Sifted) -> None:
    """Note what was let in and what was not, once the tick's runs are written."""
    await dedupe.admit(conn, [(claim, None) for claim in sifted.admitted])
    await dedupe.refuse(conn, sifted.refused)


def _claims(row: Row, plan: Plan) -> list[Claim]:
    return [Claim(row["id"], row["dedupe_key"], instant, row["dedupe_window"]) for instant, _ in plan.runs]


def _without(planned: Planned, gone: set[tuple[UUID, datetime]]) -> Planned:
    row, plan, jitter = planned
    runs = tuple(run for run in plan.runs if (row["id"], run[0]) not in gone)
    return row, replace(plan, runs=runs), jitter
