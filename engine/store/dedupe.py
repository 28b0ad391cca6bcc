"""Dedupe keys: which runs are let in, and which of those stand for others.

Runs of a task with the same key are one run: with a window, when their instants lie less than it apart (on
either side, for a tick writes ahead and a catch-up behind), without one, while the earlier is live. An instant
is `scheduled_for`, or when a run that no schedule named may start. Whoever decides holds the key's lock until
its transaction ends, so of any number of processes exactly one lets a run in. Backfill and retry repeat the
past on somebody's word: they are let in, and stand for nobody.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from engine import db
from engine.db import Connection

Key = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that asks to be let in at an instant. `window` None: while no other with its key is live."""

    task_id: UUID
    key: str
    at: datetime
    window: timedelta | None


@dataclass(frozen=True, slots=True)
class Hold:
    """A run that was let in; `run_id` None: just now, and not in the queue yet."""

    at: datetime
    run_id: UUID | None = None


async def weigh(conn: Connection, claims: Sequence[Claim]) -> list[Hold | None]:
    """What stands for each claim; None lets it in. The keys stay locked until the transaction ends.

    Claims of one key come in the order of their instants; those let in stand for the later ones.
    """
    keys = _keys(claims)
    await db.fetch(conn, "lock_dedupe_keys", keys)
    holds: dict[Key, list[Hold]] = {}
    for row in await db.fetch(conn, "list_dedupe_holds", keys):
        holds.setdefault((row["task_id"], row["key"]), []).append(Hold(row["at"], row["run_id"]))
    return judge(claims, holds)


def judge(claims: Iterable[Claim], holds: Mapping[Key, Sequence[Hold]]) -> list[Hold | None]:
    """Pure: what stands for each claim, given the holds of each key in the order of their instants."""
    known = {key: list(found) for key, found in holds.items()}
    answers = []
    for claim in claims:
        near = known.setdefault((claim.task_id, claim.key), [])
        place = bisect_left(near, claim.at, key=lambda hold: hold.at)
        answer = _standing(claim, near[max(place - 1, 0) : place + 1] if claim.window else near[:1])
        if answer is None:
            near.insert(place, Hold(claim.at))
        answers.append(answer)
    return answers


def _standing(claim: Claim, neighbours: Iterable[Hold]) -> Hold | None:
    """The neighbour that is less than the window away; none is nearer than the one before and the one after."""
    for hold in neighbours:
        if claim.window is None or abs(claim.at - hold.at) < claim.window:
            return hold
    return None


async def admit(conn: Connection, claims: Sequence[tuple[Claim, UUID | None]]) -> None:
    """Note that claims were let in, as which run; None: the run of the task's occurrence at that instant."""
    rows = [
        {
            "task_id": claim.task_id,
            "key": claim.key,
            "at": claim.at,
            "near": claim.window,
            "run_id": run_id,
        }
        for claim, run_id in claims
    ]
    if rows:
        await db.execute(conn, "insert_dedupe_holds", db.placeholders(rows, *rows[0]))


async def refuse(conn: Connection, claims: Sequence[tuple[Claim, Hold]]) -> None:
    """Write scheduled instants for which another run stands into the ledger."""
    rows = [
        {"task_id": claim.task_id, "key": claim.key, "at": claim.at, "stands_at": hold.at}
        for claim, hold in claims
    ]
    if rows:
        await db.execute(conn, "insert_deduplicated", db.placeholders(rows, *rows[0]))


def _keys(claims: Iterable[Claim]) -> dict[str, list[Any]]:
    """Each key once, with its first and last instant."""
    found: dict[Key, dict[str, Any]] = {}
    for claim in claims:
        first = {"task_id": claim.task_id, "key": claim.key, "near": claim.window, "first_at": claim.at}
        found.setdefault((claim.task_id, claim.key), first)["last_at"] = claim.at
    return db.placeholders(list(found.values()), "task_id", "key", "near", "first_at", "last_at")
