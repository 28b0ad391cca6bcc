"""Concurrency keys: who may go ahead, who waits, and who is next (docs/adr/0007-concurrency-slots.md).

    asking ──lease──▶ holds a number ──row deleted──▶ the number is passed on, or free
      │ every number is taken                            │
      ├─▶ skipped          (skip)                        ▼
      └─▶ waiting, slot -1 (queue, cancel_running) ──▶ ready again, with the number

A run holds its number from its admission to the DELETE of its row, whatever happens in between. Lock order: rows
of the queue, then numbers by (key, slot), then rows that wait, which are skipped where somebody has them.
Callers hand in what a statement deleted; nothing here touches a row that is leased.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from engine import db
from engine.db import Connection, Row
from engine.store import waits
from engine.store.moves import moving

AT_ONCE = 1000
"""Rows of one key that are turned away in one transaction: a flood is out of the leases' way in few rounds."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A due row whose key had no free number. `on_conflict`: skip, queue or cancel_running."""

    run_id: UUID
    key: str
    limit: int
    on_conflict: str


async def free(conn: Connection, ended: Iterable[Row], *, now: datetime | None = None) -> int:
    """Pass the numbers of runs whose rows were deleted on to those who wait; how many runs were woken.

    `ended`: rows with run_id, concurrency_key and key_slot; those that held nothing are passed over. To be
    called in the transaction that deleted them.
    """
    held = [row for row in ended if row["key_slot"] is not None]
    if not held:
        return 0
    keys, slots = [row["concurrency_key"] for row in held], [row["key_slot"] for row in held]
    async with conn.transaction():
        await moving(conn, "lock_slots", {"keys": keys, "low": slots, "high": slots})
        return await _wake(conn, list(zip(keys, slots, (row["run_id"] for row in held), strict=True)), now)


async def _wake(conn: Connection, freed: Sequence[tuple[str, int, UUID]], now: datetime | None) -> int:
    """Wake who is next for each number, in a snapshot that begins after the numbers were locked."""
    ended = {(key, slot): run_id for key, slot, run_id in freed}
    woken = 0
    while ended:
        values = {
            "keys": [key for key, _ in ended],
            "slots": [slot for _, slot in ended],
            "run_ids": list(ended.values()),
            "now": now,
        }
        rows = await moving(conn, "wake_waiting", values)
        woken += sum(row["run_id"] is not None for row in rows)
        left = {(row["key"], row["slot"]) for row in rows if row["run_id"] is None}
        ended = {place: run_id for place, run_id in ended.items() if place in left}
    if woken:
        await db.fetch(conn, "notify_work")
    return woken


async def turn_away(
    conn: Connection, refused: Sequence[Refused], *, now: datetime | None = None
) -> tuple[int, dict[UUID, UUID]]:
    """Take rows whose key is exhausted out of the way of leases, with all others that ask for it in vain.

    They wait, or end as skipped. Rows of a key that has a free number by now are left alone: the next lease
    takes them. So are those that came to replace others, until enough holders were told. How many were turned
    away, and which runs have to be told to end, for whom: {holder: newcomer}.
    """
    most: dict[str, int] = {}
    for one in refused:
        most[one.key] = max(most.get(one.key, 0), one.limit)
    keys = sorted(most)
    async with conn.transaction():
        values = {"keys": keys, "low": [0] * len(keys), "high": [most[key] - 1 for key in keys]}
        holders = _by_key(await moving(conn, "lock_slots", values))
        below = {key: _first_free(rows) for key, rows in holders.items()}
        full = {"keys": list(below), "below": list(below.values()), "limit": AT_ONCE, "now": now}
        rows = await moving(conn, "pick_refused", full)
        rivals = await _rivals(conn, [row for row in rows if row["on_conflict"] == "cancel_running"])
        told = await _to_tell(conn, rivals)
        skipped = _superseded(rivals) | {
            row["run_id"]: _taken(holders[row["concurrency_key"]])
            for row in rows
            if row["on_conflict"] == "skip"
        }
        await skip(conn, skipped, now=now)
        asking = {row["run_id"] for key in told for row in rivals[key]}
        waiting = [row["run_id"] for row in rows if row["run_id"] not in skipped.keys() | asking]
        if waiting:
            await moving(conn, "park_waiting", {"run_ids": waiting})
    return len(waiting) + len(skipped), {holder: newest for each in told.values() for holder, newest in each}


async def skip(conn: Connection, reasons: Mapping[UUID, str], *, now: datetime | None = None) -> None:
    """End rows that nobody has begun, with the reason in the ledger or in history."""
    if reasons:
        values = {"run_ids": list(reasons), "reasons": list(reasons.values()), "now": now}
        await waits.ended(conn, await moving(conn, "skip_due_work", values), now=now)


async def sweep(conn: Connection, *, now: datetime | None = None) -> int:
    """Free numbers whose runs are gone, and wake who waits for a free number; how many rows were woken.

    Nothing should be found: it is what is left to do when somebody deleted rows by hand, or when the next in
    line was locked by a transaction that came to nothing.
    """
    gone = [(row["key"], row["slot"], row["run_id"]) for row in await moving(conn, "sweep_slots", {})]
    idle = await moving(conn, "find_free_slots", {"limit": AT_ONCE})
    # Nobody holds these: the id stands for no run, so a number that is taken meanwhile is left to who took it.
    return await _wake(conn, [*gone, *((row["key"], row["slot"], UUID(int=0)) for row in idle)], now)


async def _rivals(conn: Connection, arrived: Sequence[Row]) -> dict[str, list[Row]]:
    """Those that came to replace the holders of each key, with those that wait for the same, the newest first."""
    if not arrived:
        return {}
    keys = sorted({row["concurrency_key"] for row in arrived})
    earlier = await moving(conn, "pick_rivals", {"keys": keys})
    rivals: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted([*earlier, *arrived], key=lambda row: (row["run_at"], row["run_id"]), reverse=True):
        rivals[row["concurrency_key"]].append(row)
    return dict(rivals)


def _superseded(rivals: Mapping[str, Sequence[Row]]) -> dict[UUID, str]:
    """Which of those that came to replace others are themselves replaced: only the newest, up to the limit, wait."""
    return {
        row["run_id"]: f"replaced by run {rows[0]['run_id']} before it began"
        for rows in rivals.values()
        for row in rows[_limit(rows) :]
    }


async def _to_tell(
    conn: Connection, rivals: Mapping[str, Sequence[Row]]
) -> dict[str, list[tuple[UUID, UUID]]]:
    """The holders of each key that have to end and were not told yet, each with the newest of its rivals.

    As many as there are rivals, and no more than the limit; the longest holders first. The numbers are locked.
    """
    told: dict[str, list[tuple[UUID, UUID]]] = {}
    found = await db.fetch(conn, "list_holders", {"keys": list(rivals)}) if rivals else []
    for key, holders in _by_key(found).items():
        rows, newest = [row for row in holders if row["slot"] < _limit(rivals[key])], rivals[key][0]["run_id"]
        wanted = min(_limit(rivals[key]), len(rivals[key])) - sum(row["asked"] for row in rows)
        left = [(row["run_id"], newest) for row in rows if not row["asked"]][: max(wanted, 0)]
        if left:
            told[key] = left
    return told


def _limit(rows: Iterable[Row]) -> int:
    """The largest limit that rows of one key name."""
    most: int = max(row["concurrency_limit"] for row in rows)
    return most


def _by_key(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["key"]].append(row)
    return dict(found)


def _first_free(holders: Sequence[Row]) -> int:
    """The lowest number that nobody holds; rows with a limit up to it ask in vain."""
    taken = {row["slot"] for row in holders}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _taken(holders: Sequence[Row]) -> str:
    """Why a row is skipped: the key, as its author wrote it, and the run that holds it."""
    first = holders[0]
    others = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
    return f"concurrency key '{shown(first['key'])}' is held by run {first['run_id']}{others}"


def shown(key: str) -> str:
    """A stored key as people know it: without the word that keeps the two kinds of keys apart."""
    return key.partition(":")[2]
