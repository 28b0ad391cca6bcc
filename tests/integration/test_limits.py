"""Limits that all hosts share: what their statements promise, whoever asks at the same moment."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest

from engine import db
from engine.db import Connection
from engine.limits import PATIENCE, Breaker, Rate
from engine.store import limits
from engine.store.limits import Seen, Slot, Tokens

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TTL = timedelta(seconds=30)
HOSTS = 6


@pytest.fixture
async def hosts(database_url: str) -> AsyncIterator[list[Connection]]:
    """Connections of several hosts, which compete."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(await db.connect(database_url, f"host-{number}"))
            for number in range(HOSTS)
        ]


def lives(rate: Rate, tokens: Tokens) -> Iterator[tuple[datetime, datetime]]:
    """From when until when each token may be used."""
    for number in range(tokens.count):
        instant = tokens.first + number * rate.interval
        yield instant - rate.tolerance, instant + rate.interval


def fullest(rate: Rate, uses: list[datetime]) -> int:
    """The most uses that any window [start, start + per) has."""
    uses = sorted(uses)
    return max(bisect_left(uses, start + rate.per) - number for number, start in enumerate(uses))


@pytest.mark.parametrize(
    "rate",
    [
        Rate(10, SECOND, 10),
        Rate(10, SECOND, 1),
        Rate(3, SECOND, 7),
        Rate(7, timedelta(minutes=1), 2),
        Rate(1, SECOND, 1),
    ],
    ids=["full burst", "no burst", "large burst", "slow", "one"],
)
@pytest.mark.parametrize("seed", range(3))
async def test_no_window_has_more_than_limit_and_burst(conn: Connection, rate: Rate, seed: int) -> None:
    """Whoever asks when, for how many, and uses its tokens as early, as late or as unevenly as they allow."""
    chance = random.Random(seed)
    now, uses = NOON, []
    for _ in range(120):
        now += chance.choice([timedelta(0), rate.interval / 3, rate.interval, rate.per * 2])
        wanted = chance.randrange(1, 6)
        tokens = await limits.take_tokens(
            conn,
            "t",
            rate,
            wanted=wanted,
            ahead=chance.randrange(4),
            patience=PATIENCE * chance.random(),
            now=now,
        )
        assert tokens.count + len(tokens.back) >= wanted, "who gets nothing is told when to come back"
        for begins, ends in lives(rate, tokens):
            begins = max(begins, now)
            if begins < ends:
                late = chance.choice([0, 0.999, chance.random()])
                uses.append(begins + (ends - begins) * late)
    assert fullest(rate, uses) <= rate.limit + rate.burst
    assert fullest(rate, uses) > min(rate.burst, rate.limit - 1), "and what is allowed can be used"


async def test_hosts_that_ask_at_once_share_one_bucket(hosts: list[Connection]) -> None:
    """Every token is handed out once: the instants of all of them are at least an interval apart."""
    rate = Rate(200, SECOND, 40)
    instants: list[datetime] = []

    async def host(conn: Connection) -> None:
        for _ in range(25):
            tokens = await limits.take_tokens(conn, "t", rate, wanted=2, ahead=1, patience=SECOND)
            instants.extend(tokens.first + number * rate.interval for number in range(tokens.count))

    await asyncio.gather(*map(host, hosts))
    instants.sort()
    apart = [later - earlier for earlier, later in pairwise(instants)]
    assert len(instants) > rate.limit
    assert min(apart) >= rate.interval


async def test_the_refused_are_told_instants_of_their_own(conn: Connection) -> None:
    """A thousand that wait come back one after the other and not all at once; nobody is sent away for too long."""
    rate = Rate(1, SECOND, 1)
    first = await limits.take_tokens(conn, "t", rate, wanted=4, now=NOON)
    second = await limits.take_tokens(conn, "t", rate, wanted=2, now=NOON)
    assert first.count == 1
    assert [*first.back, *second.back] == [number * SECOND for number in (1, 2, 3, 4, 5)]
    last = await limits.take_tokens(conn, "t", rate, wanted=3000, now=NOON)
    again = await limits.take_tokens(conn, "t", rate, wanted=1, now=NOON)
    assert last.back[-1] > limits.LONGEST_RETURN >= again.back[0]


async def test_a_faster_rate_counts_at_once(conn: Connection) -> None:
    """What a rate of one an hour left behind does not hold up one of a hundred a second."""
    slow, fast = Rate(1, timedelta(hours=1), 1), Rate(100, SECOND, 1)
    assert (await limits.take_tokens(conn, "t", slow, wanted=1, now=NOON)).count == 1
    later = NOON + 3 * SECOND
    assert (await limits.take_tokens(conn, "t", fast, wanted=1, patience=SECOND, now=later)).count == 0
    later += SECOND
    assert (await limits.take_tokens(conn, "t", fast, wanted=1, patience=SECOND, now=later)).count == 1


HISTORY = """
CREATE TABLE public.history (at bigint GENERATED ALWAYS AS IDENTITY, slot integer, held_by text, at_time timestamptz);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.history (slot, held_by, at_time) VALUES (new.slot, new.held_by, clock_timestamp());
  IF new.held_by IS NOT NULL AND old.held_by IS NOT NULL AND old.held_until > clock_timestamp() THEN
    RAISE EXCEPTION 'number % is taken from %', new.slot, old.held_by;
  END IF;
  RETURN new;
END $$;
CREATE TRIGGER note BEFORE UPDATE ON duework.tool_slot FOR EACH ROW EXECUTE FUNCTION public.note();
"""


async def test_hosts_that_ask_at_once_share_the_numbers(conn: Connection, hosts: list[Connection]) -> None:
    """By the table's own history a number has one holder at a time and all are below the limit; all are used."""
    await conn.execute(HISTORY.encode())
    inside: set[int] = set()

    async def host(number: int, own: Connection) -> int:
        calls = 0
        for _ in range(30):
            slots, _ = await limits.take_slots(own, "t", 3, f"host-{number}", count=2, ttl=TTL)
            for slot in slots:
                assert slot.number not in inside, "two hold one number"
                inside.add(slot.number)
            assert len(inside) <= 3
            calls += len(slots)
            await db.clock(own)
            inside.difference_update(slot.number for slot in slots)
            assert await limits.free_slots(own, f"host-{number}", slots) == len(slots)
        return calls

    calls = await asyncio.gather(*(host(number, own) for number, own in enumerate(hosts)))
    rows = await (await conn.execute(b"SELECT slot, held_by FROM public.history ORDER BY at")).fetchall()
    held: dict[int, str] = {}
    for row in rows:
        if row["held_by"] is None:
            held.pop(row["slot"])
        else:
            assert row["slot"] not in held
            held[row["slot"]] = row["held_by"]
        assert len(held) <= 3
        assert all(slot < 3 for slot in held)
    assert sum(calls) == len(rows) / 2 > 60


async def test_the_number_of_a_killed_holder_comes_back(conn: Connection) -> None:
    """After its time and not before; the old holder can neither prolong nor free it any more."""
    (slot,), _ = await limits.take_slots(conn, "t", 1, "killed", count=1, ttl=TTL, now=NOON)
    for moment, got in ((NOON + TTL - SECOND, 0), (NOON + TTL, 1)):
        taken, age = await limits.take_slots(conn, "t", 1, "next", count=1, ttl=TTL, now=moment)
        assert len(taken) == got
        assert age > timedelta(0)
    assert await limits.renew_slots(conn, "killed", [slot], ttl=TTL, now=NOON + TTL) == set()
    assert await limits.free_slots(conn, "killed", [slot]) == 0
    assert await limits.renew_slots(conn, "next", taken, ttl=TTL, now=NOON + TTL + SECOND) == {("t", 0)}


async def test_a_number_is_renewed_only_while_it_is_held(conn: Connection) -> None:
    """A holder that slept past its time has lost it, even when nobody else came; an older hold is not the newer."""
    (slot,), _ = await limits.take_slots(conn, "t", 1, "me", count=1, ttl=TTL, now=NOON)
    assert await limits.renew_slots(conn, "me", [slot], ttl=TTL, now=NOON + TTL / 2) == {("t", 0)}
    assert await limits.renew_slots(conn, "me", [slot], ttl=TTL, now=NOON + 2 * TTL) == set()
    (again,), _ = await limits.take_slots(conn, "t", 1, "me", count=1, ttl=TTL, now=NOON + 2 * TTL)
    assert await limits.free_slots(conn, "me", [slot]) == 0, "that hold is over"
    assert await limits.free_slots(conn, "me", [again]) == 1


async def test_a_lower_limit_gives_out_no_number_above_it(conn: Connection) -> None:
    """Those who hold larger numbers finish; new ones are given only below."""
    await limits.take_slots(conn, "t", 5, "old", count=2, ttl=TTL, now=NOON)
    slots, _ = await limits.take_slots(conn, "t", 3, "new", count=5, ttl=TTL, now=NOON)
    assert [slot.number for slot in slots] == [2]


BREAKER = Breaker(failures=3, open_for=timedelta(seconds=10), successes=2)


async def state_of(conn: Connection, now: datetime) -> tuple[str, int, timedelta | None]:
    """State, failures and wait of the one tool."""
    (row,) = await limits.breakers(conn, now=now)
    return row["state"], row["failures"], row["wait"]


async def failed(conn: Connection, times: int, now: datetime = NOON, *, succeeded: bool = False) -> list[str]:
    return await limits.report(conn, [Seen("t", times, succeeded, BREAKER)], now=now)


async def test_a_breaker_opens_after_failures_in_a_row_over_all_hosts(conn: Connection) -> None:
    """A success in between begins the count anew; what comes in late does not prolong the pause."""
    assert await failed(conn, 2) == []
    assert await failed(conn, 1, succeeded=True) == []
    assert await state_of(conn, NOON) == ("closed", 1, None)
    assert await failed(conn, 2) == ["t"]
    assert await state_of(conn, NOON + 4 * SECOND) == ("open", 3, 6 * SECOND)
    assert await failed(conn, 5, NOON + 4 * SECOND) == []
    assert await failed(conn, 0, NOON + 4 * SECOND, succeeded=True) == []
    assert await state_of(conn, NOON + 4 * SECOND) == ("open", 3, 6 * SECOND)


async def test_one_host_probes_at_a_time(conn: Connection, hosts: list[Connection]) -> None:
    """When the pause is over exactly one of all that ask at once may try; the next only after it, or after its time."""
    await failed(conn, 3)
    over = NOON + BREAKER.open_for
    assert not await limits.claim_probe(conn, "t", uuid4(), ttl=TTL, now=over - SECOND), "not yet"
    for moment in (over, over + TTL):
        claims = [limits.claim_probe(host, "t", uuid4(), ttl=TTL, now=moment) for host in hosts]
        assert sorted(await asyncio.gather(*claims)) == [False] * (HOSTS - 1) + [True]
    assert await state_of(conn, over + TTL + SECOND) == ("half_open", 3, TTL - SECOND)


@pytest.mark.parametrize(
    ("outcomes", "states"),
    [
        ([True, True], ["half_open", "closed"]),
        ([True, None, True], ["half_open", "half_open", "closed"]),
        ([True, False], ["half_open", "open"]),
        ([False], ["open"]),
    ],
)
async def test_what_probes_find_decides(
    conn: Connection, outcomes: list[bool | None], states: list[str]
) -> None:
    """As many successes as it wants close it, a failure opens it again, a call that was not made changes nothing."""
    await failed(conn, 3)
    found, now = [], NOON + BREAKER.open_for
    for outcome in outcomes:
        probe = uuid4()
        assert await limits.claim_probe(conn, "t", probe, ttl=TTL, now=now)
        found.append(await limits.settle_probe(conn, "t", probe, BREAKER, succeeded=outcome, now=now))
    assert found == states
    wait = BREAKER.open_for if states[-1] == "open" else None
    assert (await state_of(conn, now))[2] == wait


async def test_a_probe_whose_claim_ran_out_decides_nothing(conn: Connection) -> None:
    """A host that was stopped and wakes up after another has taken over is too late."""
    await failed(conn, 3)
    stopped, other, now = uuid4(), uuid4(), NOON + BREAKER.open_for
    assert await limits.claim_probe(conn, "t", stopped, ttl=TTL, now=now)
    assert await limits.claim_probe(conn, "t", other, ttl=TTL, now=now + TTL)
    assert await limits.settle_probe(conn, "t", stopped, BREAKER, succeeded=False, now=now + TTL) is None
    assert (await state_of(conn, now + TTL))[0] == "half_open"


async def test_an_unknown_slot_is_nobodys(conn: Connection) -> None:
    """Freeing what never was is no error."""
    assert await limits.free_slots(conn, "me", [Slot("t", 0, NOON)]) == 0
