"""The coordinator: keeps the slots of one process full, its leases alive, and gives them back on a drain.

    fetch ──lease(batch)──▶ buffer ──▶ slots (runner) ──▶ settler
      ▲ woken by LISTEN, by free room, by the next row's run_at, and by polling

Invariants: a lease is in `held` from the moment it is taken until its settlement is written or it is lost;
everything in `held` is renewed every third of a lease; what renewal does not confirm is stopped locally.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from engine import db, telemetry
from engine.db import Connection, Pool, Row
from engine.metrics import Metrics
from engine.plan import StepRecord
from engine.store import leases, notifier
from engine.store.leases import Lease
from workers.config import WorkerConfig
from workers.runner import Held, Runner
from workers.settler import Settlement, Settler

AHEAD = 0.5
"""Seconds of work that are leased ahead: short runs come in large batches, long ones are not hoarded."""
SOON = timedelta(milliseconds=1)
BUSY = timedelta(milliseconds=50)
"""How long to wait when the only due rows are locked by somebody else."""
PUNCTUAL = timedelta(milliseconds=25)
"""How long before its instant a run is leased, so that its start does not wait for a commit: with it runs of a calm
machine begin 3.4 ms late at the median and 8.3 at p99, without it 5.7 and 15 (tests/load/punctual.py)."""
TURN = 0.001
"""Seconds for which a slot goes from one run to the next before it lets everybody else have a turn."""
STALE = 2.0
"""Seconds after which a lease that has not started goes back, for another process to take."""


class Coordinator:
    """One process's leases. `fetch` and `renew` are called as services until `drain`."""

    def __init__(
        self, config: WorkerConfig, pool: Pool, runner: Runner, settler: Settler, metrics: Metrics
    ) -> None:
        self.config = config
        self.pool = pool
        self.runner = runner
        self.settler = settler
        settler.flowing = self._flowing
        self.metrics = metrics
        self.held: dict[UUID, Held] = {}
        self.draining = False
        self._buffer: deque[Held] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._beginning = 0
        self._typical = float("inf")
        self._wake = asyncio.Event()
        self.recheck: Callable[[], None] = lambda: None
        self._leasing = asyncio.Lock()
        self._log = telemetry.logger("workers.coordinator").bind()  # or each call would bind it

    @property
    def busy(self) -> int:
        """Runs under way now."""
        return len(self._running)

    def notice(self, channel: str, payload: str) -> None:
        """A notification arrived: new work, or the cancellation of a run that may be ours."""
        if channel != notifier.CANCEL:
            self._wake.set()
        elif payload in map(str, self.held):
            # Anyone may NOTIFY: the row's own flag and reason decide, and the renewal reads them.
            self.recheck()

    async def fetch(self) -> None:
        """One round: lease what fits, then wait for room, news, the next row's instant or the poll."""
        self._wake.clear()
        await self._give_back()
        wait = await self._lease()
        if wait is None or wait > timedelta(0) or not self._low():
            await self._pause(min(self.config.poll, wait or self.config.poll))

    async def _lease(self) -> timedelta | None:
        """Take what there is room for; how long until more may be taken, None when only news can tell."""
        async with self._leasing:
            room = self._room()
            if self.draining or room <= 0 or not self._low():
                return None
            async with db.connection(self.pool) as conn:
                began = time.monotonic()
                # Each statement commits by itself: a run starts as soon as its lease is durable.
                taken, refused = await leases.take(
                    conn, self.config.process.id, room, self.config.lease, ahead=PUNCTUAL
                )
                await self._take(conn, taken, began)
                turned_away = await leases.turn_away(conn, refused)
                if len(taken) == room or turned_away:
                    return timedelta(0)
                wait = await leases.next_due(conn)
        # A row that is due and was not taken is locked by somebody: asking at once again would spin. One that is due
        # in a moment is waited for exactly; with BUSY for it as well, runs began 23 ms late (tests/load/punctual.py).
        if wait is None:
            return None
        # Halves, for a row that is due within PUNCTUAL and was not taken: its concurrency key is asked for then.
        return BUSY if not taken and wait <= timedelta(0) else max(wait - PUNCTUAL, wait / 2, SOON)

    async def _take(self, conn: Connection, taken: Sequence[Lease], began: float) -> None:
        """Hold new leases; those of runs that somebody held before get their finished steps first."""
        end = began + self.config.lease.total_seconds()
        received = time.monotonic()
        fresh = [Held(lease, end, began, received) for lease in taken]
        self.held |= {held.lease.run_id: held for held in fresh}
        self.metrics.leased.inc(len(taken))
        again = [held.lease.run_id for held in fresh if held.lease.leased_before]
        finished: dict[UUID, list[Row]] | None = None
        try:
            finished = await leases.checkpoints(conn, again) if again else {}
        finally:
            if finished is None:  # the leases are ours: they go back rather than lie until they are reaped
                for held in fresh:
                    held.stop = "drain"
                    await self._finish(held, self.runner.stopped(held))
        for held in fresh:
            held.resume(StepRecord.of(one) for one in finished.get(held.lease.run_id, ()))
        self._buffer.extend(fresh)
        self._fill()

    def _fill(self) -> None:
        """Begin slots while there are leases for them."""
        while len(self._buffer) > self._beginning and len(self._running) < self.config.concurrency:
            task = asyncio.get_running_loop().create_task(self._slot())
            self._beginning += 1
            self._running.add(task)
            task.add_done_callback(self._slot_ended)
        self.metrics.slots_busy.set(len(self._running))

    def _slot_ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self.draining:
            self._fill()
        if self._low():
            self._wake.set()

    async def _slot(self) -> None:
        """One run after the other, for as long as leases wait: a task for each of them would cost more than some."""
        self._beginning -= 1
        task = asyncio.current_task()
        turn = time.monotonic()
        while (
            self._buffer and task is not None and not task.cancelling()
        ):  # one that was cancelled has done its work
            held = self._buffer.popleft()
            if not self._buffer:
                self.settler.hurry()
            if self._low():
                self._wake.set()
            ended = await self._one(held, task)
            if ended - turn > TURN:
                await asyncio.sleep(0)
                turn = time.monotonic()

    async def _one(self, held: Held, task: asyncio.Task[None]) -> float:
        """One run from lease to settlement, begun on its instant; the local time of its end."""
        while held.stop is None and (early := held.early()) > 0:  # noqa: ASYNC110 a time is waited for, no event
            await asyncio.sleep(early)
        began = time.monotonic()
        if held.stop is None:
            held.task = task
            settlement = await self.runner.run(held)
            held.task = None
        else:
            settlement = self.runner.stopped(held)
        ended = time.monotonic()
        took = ended - began
        self._typical = (
            took if self._typical == float("inf") else self._typical + 0.05 * (took - self._typical)
        )
        await self._finish(held, settlement)
        return ended

    async def _finish(self, held: Held, settlement: Settlement | None) -> None:
        if settlement is None:
            self._lost(held)
            return
        if settlement.kind == "decided":
            self.held.pop(held.lease.run_id, None)
            return
        if held.lease.concurrency_key is not None:
            settlement = replace(settlement, keyed=True)
        await self.settler.add(settlement, lambda kept: self._settled(held, settlement, kept))

    def _settled(self, held: Held, settlement: Settlement, kept: bool) -> None:
        if not kept:
            self._lost(held)
            return
        self.held.pop(held.lease.run_id, None)
        run_id, status, kind = str(settlement.run_id), settlement.status, settlement.kind
        self._log.debug("run.settled", run_id=run_id, status=status, kind=kind)
        self.metrics.ended(status or kind)
        if settlement.started_at and settlement.finished_at:
            length = settlement.finished_at - settlement.started_at
            self.metrics.run_seconds.observe(length.total_seconds())

    def _lost(self, held: Held) -> None:
        """The lease is somebody else's: nothing was written, and nothing will be."""
        if self.held.pop(held.lease.run_id, None) is not None:
            self.metrics.leases_lost.inc()
            self._log.warning("lease.lost", run_id=str(held.lease.run_id), fence=held.lease.fence)

    async def renew(self) -> None:
        """Prolong every lease; stop locally what is lost or canceled. The unconfirmed is left to `enforce`."""
        everything = list(self.held.values())
        if not everything:
            return
        now = time.monotonic()
        async with db.connection(self.pool) as conn:
            pairs = [(held.lease.run_id, held.lease.fence) for held in everything]
            ours = await leases.renew(conn, pairs, self.config.lease)
        for held in everything:
            if held.lease.run_id not in self.held:
                continue  # settled while the renewal was under way
            renewal = ours.get(held.lease.run_id)
            if renewal is None:
                if not held.deciding:  # else the decision tells what has become of the row: it is fenced, too
                    self._stop(held, "lost")
            elif renewal.renewed:
                held.deadline = now + self.config.lease.total_seconds()
                if renewal.cancel_reason is not None:
                    self._stop(held, renewal.cancel_reason)

    async def enforce(self) -> None:
        """Stop what could not be renewed before its lease ran out, whatever holds the renewal up."""
        now = time.monotonic()
        for held in list(self.held.values()):
            if now >= held.deadline:
                self._stop(held, "lost")

    async def drain(self) -> None:
        """Take nothing new, let runs finish for a while, then give back what is left; no attempt is used up."""
        self._log.info("worker.draining", busy=self.busy, buffered=len(self._buffer))
        self.draining = True
        self._wake.set()
        async with self._leasing:  # a lease that is being taken at this moment must not slip through
            await self._give_back(older_than=-1.0)
        if self._running:
            await asyncio.wait(self._running, timeout=self.config.drain.total_seconds())
        for held in list(self.held.values()):
            self._stop(held, "drain")
        while self._running:
            await asyncio.wait(self._running)
        await self.settler.drain()

    async def _give_back(self, older_than: float = STALE) -> None:
        """Release leases that wait in the buffer for longer than they should."""
        now = time.monotonic()
        while self._buffer and now - self._buffer[0].began > older_than:
            held = self._buffer.popleft()
            held.stop = held.stop or "drain"
            self._typical = max(self._typical, 60.0)  # runs are longer than they seemed: stop leasing ahead
            await self._finish(held, self.runner.stopped(held))

    def _stop(self, held: Held, reason: str) -> None:
        """End a run from outside; a task that is inside the runner turns the cancellation into a settlement."""
        if held.stop is None:
            held.stop = reason
            if held.task is not None:
                held.task.cancel()

    def _room(self) -> int:
        """How many leases to take: the free slots, and ahead of them as much as AHEAD seconds will use up."""
        ahead = min(self.config.buffer, int(self.config.concurrency * AHEAD / max(self._typical, 1e-4)))
        return self.config.concurrency + ahead - len(self._running) - len(self._buffer)

    def _low(self) -> bool:
        """Whether to lease more: not for each slot that gets free, but once about a third of a batch is left."""
        return len(self._buffer) * 2 <= self._room()

    def _flowing(self) -> bool:
        """Whether more runs wait here than there are slots: results come one upon the other."""
        return len(self._buffer) > self.config.concurrency

    async def _pause(self, longest: timedelta) -> None:
        try:
            async with asyncio.timeout(max(longest.total_seconds(), 0)):
                await self._wake.wait()
        except TimeoutError:
            return
