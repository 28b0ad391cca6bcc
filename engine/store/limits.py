"""Limits of tools that all hosts share: rates, slots and circuit breakers. What holds, whoever calls and dies:

Rate. No half-open window of length `per` has more than limit + burst calls begun in it. Each token has an instant, two
of them at least one interval apart, and is used within [instant - tolerance, instant + interval) by the database's
clock or never: a batch that a worker took and did not use in time is lost, not saved up.

Slots. A number below the limit is held by one process at a time, from the commit that takes it to the one that gives
it back, or until `held_until`. A killed holder's numbers come back by themselves; a stopped one finds on waking that
its time has passed and breaks its calls off, so there are more calls than numbers only until it has done that.

Breaker. closed -> open -> half_open -> closed or open, and no other way. At most one unexpired claim to probe exists
over all hosts. Calls of before do not count while it is not closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from engine import db
from engine.db import Connection, Row
from engine.limits import PATIENCE, Breaker, Rate

LONGEST_RETURN = timedelta(minutes=10)
"""How far ahead a refused call is told to come back, at most: a limit that was raised meanwhile is noticed by then."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """`count` tokens, their instants `first` and then one interval apart; `back` says when each refused may return."""

    now: datetime
    first: datetime
    count: int
    back: tuple[timedelta, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A number under a tool's limit; `taken_at` tells this hold from every other of the same number."""

    tool: str
    number: int
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What a process saw of a tool: `failures` in a row at the end, and whether a call succeeded before them."""

    tool: str
    failures: int
    succeeded: bool
    breaker: Breaker


async def take_tokens(
    conn: Connection,
    tool: str,
    rate: Rate,
    *,
    wanted: int,
    ahead: int = 0,
    patience: timedelta = timedelta(0),
    lead: timedelta = timedelta(0),
    now: datetime | None = None,
) -> Tokens:
    """Up to `wanted` + `ahead` tokens that may be used within `patience`; those not got of `wanted` are told when."""
    assert patience <= PATIENCE, "tokens beyond it would be given out twice"
    values = {
        **{"tool": tool, "wanted": wanted, "ahead": ahead, "patience": patience, "lead": lead, "now": now},
        **{
            "interval": rate.interval,
            "tolerance": rate.tolerance,
            "longest": LONGEST_RETURN,
            "horizon": PATIENCE,
        },
    }
    row = await db.fetch_one(conn, "take_tokens", values)
    if row is None:
        await db.execute(conn, "open_bucket", {"tool": tool})
        row = await db.fetch_one(conn, "take_tokens", values)
    assert row is not None, "the bucket was made"
    back = tuple(row["back_in"] + number * rate.interval for number in range(row["refused"]))
    return Tokens(row["now"], row["first"], row["granted"], back)


async def take_slots(
    conn: Connection,
    tool: str,
    limit: int,
    holder: str,
    *,
    count: int,
    ttl: timedelta,
    now: datetime | None = None,
) -> tuple[list[Slot], timedelta]:
    """Up to `count` numbers below `limit`, and how long those who hold numbers have held them on average."""
    values = {"tool": tool, "limit": limit, "holder": holder, "count": count, "ttl": ttl, "now": now}
    row = await db.fetch_one(conn, "take_slots", values)
    assert row is not None, "an aggregate has one row"
    if row["known"] < limit and len(row["slots"]) < count:
        await db.execute(conn, "open_slots", {"tool": tool, "limit": limit})
        more = await db.fetch_one(conn, "take_slots", {**values, "count": count - len(row["slots"])})
        assert more is not None, "an aggregate has one row"
        row = {**more, **{name: row[name] + more[name] for name in ("slots", "taken_at")}}
    slots = [Slot(tool, *each) for each in zip(row["slots"], row["taken_at"], strict=True)]
    return slots, row["age"] or timedelta(0)


async def renew_slots(
    conn: Connection, holder: str, slots: Sequence[Slot], *, ttl: timedelta, now: datetime | None = None
) -> set[tuple[str, int]]:
    """Prolong numbers by `ttl`; (tool, number) of those that are still the holder's."""
    rows = await db.fetch(conn, "renew_slots", {**_held(holder, slots), "ttl": ttl, "now": now})
    return {(row["tool"], row["slot"]) for row in rows}


async def free_slots(conn: Connection, holder: str, slots: Sequence[Slot]) -> int:
    """Give numbers back; how many were still the holder's."""
    return await db.execute(conn, "free_slots", _held(holder, slots))


async def breakers(conn: Connection, *, now: datetime | None = None) -> list[Row]:
    """{tool, state, failures, changed_at, wait} of every tool that ever failed, by name."""
    return await db.fetch(conn, "list_breakers", {"now": now})


async def report(conn: Connection, seen: Iterable[Seen], *, now: datetime | None = None) -> list[str]:
    """Count what was seen; the tools whose breaker opened by it."""
    found = sorted(seen, key=lambda one: one.tool)
    tools = [one.tool for one in found]
    values = {
        "tools": tools,
        "failures": [one.failures for one in found],
        "succeeded": [one.succeeded for one in found],
        "most": [one.breaker.failures for one in found],
        "open_for": [one.breaker.open_for for one in found],
        "now": now,
    }
    await db.execute(conn, "open_breakers", {"tools": tools})
    return [row["tool"] for row in await db.fetch(conn, "report_calls", values) if row["opened"]]


async def claim_probe(
    conn: Connection, tool: str, probe: UUID, *, ttl: timedelta, now: datetime | None = None
) -> bool:
    """Whether `probe` is the one that may try the tool, for `ttl` at most."""
    values = {"tool": tool, "probe": probe, "ttl": ttl, "now": now}
    return await db.fetch_one(conn, "claim_probe", values) is not None


async def settle_probe(
    conn: Connection,
    tool: str,
    probe: UUID,
    breaker: Breaker,
    *,
    succeeded: bool | None,
    now: datetime | None = None,
) -> str | None:
    """The state after a probe, whose outcome is None when it never reached the tool; None: the claim had run out."""
    values = {"tool": tool, "probe": probe, "succeeded": succeeded, "now": now}
    values |= {"wanted": breaker.successes, "open_for": breaker.open_for}
    row = await db.fetch_one(conn, "settle_probe", values)
    return row["state"] if row else None


def _held(holder: str, slots: Sequence[Slot]) -> Row:
    return {
        "holder": holder,
        "tools": [one.tool for one in slots],
        "slots": [one.number for one in slots],
        "taken_at": [one.taken_at for one in slots],
    }
