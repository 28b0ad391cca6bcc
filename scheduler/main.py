"""The scheduler process. APScheduler is the metronome and nothing else: a memory job store with a few interval
jobs, because the one truth about what is due is the task table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from engine import db, reflex, telemetry
from engine import settings as settings_
from engine.db import Pool
from engine.metrics import Metrics
from engine.reflex.proof import prepare
from engine.service import attempted, stop_signals
from engine.settings import Settings
from engine.store import workers
from engine.store.workers import Process
from scheduler import reaper, retention, rotation, sealer, zones
from scheduler.spoilt import SPOILT, apart
from scheduler.tick import draw, write

Round = tuple[str, Callable[[], Awaitable[object]], timedelta]
"""A name, what is done, and how often."""
ROTATE_EVERY = timedelta(seconds=5)
MAINTAIN_EVERY = timedelta(hours=1)
SEAL_EVERY = timedelta(seconds=5)
TICKS_IN_A_ROW = 100
LANES = 2
LATE = timedelta(seconds=30)
"""A scheduler that has not ticked for three intervals, or for this long if that is more, counts as gone."""


async def serve(settings: Settings) -> None:
    """Tick until SIGTERM or SIGINT; the round under way is finished first."""
    log = telemetry.logger("scheduler.main")
    prepare(settings)
    stop = asyncio.Event()
    process = Process.here("scheduler")
    metrics = Metrics()
    async with db.pool(settings, "scheduler", size=4) as pool:
        metronome = AsyncIOScheduler(timezone="UTC")
        under_way: set[asyncio.Task[bool]] = set()
        for name, round_, every in _rounds(settings, pool, metrics, process):
            await attempted(round_, telemetry.logger(name))
            _add(metronome, _guarded(name, round_, under_way), name, every)
        # Beside the ticks from the beginning: after an upgrade there may be a million tasks to look at.
        renewal = _guarded("scheduler.zones", lambda: zones.renew(pool, stop), under_way)
        _add(metronome, renewal, "scheduler.zones", MAINTAIN_EVERY, next_run_time=datetime.now(UTC))
        metronome.start()
        log.info("scheduler.started", scheduler=process.id, every=settings.tick_interval.total_seconds())
        with stop_signals(stop.set):
            await stop.wait()
        metronome.shutdown(wait=False)
        if under_way:
            await asyncio.wait(under_way)
        async with db.transaction(pool) as conn:
            await workers.forget_scheduler(conn, process.id)
    log.info("scheduler.stopped", scheduler=process.id)


def _rounds(settings: Settings, pool: Pool, metrics: Metrics, process: Process) -> list[Round]:
    """What is done first of all, and then every so often."""
    return [
        ("scheduler.tick", lambda: ticks(settings, pool, metrics, process), settings.tick_interval),
        ("scheduler.reaper", lambda: reaper.reap(pool, metrics, process.id), settings.reap_interval),
        ("scheduler.rotation", lambda: rotation.rotate(pool, settings.rotation_interval), ROTATE_EVERY),
        ("scheduler.sealer", lambda: sealer.seal(pool), SEAL_EVERY),
        ("scheduler.retention", lambda: retention.maintain(pool, settings), MAINTAIN_EVERY),
    ]


def _add(
    metronome: AsyncIOScheduler, job: Callable[[], Awaitable[None]], name: str, every: timedelta, **more: Any
) -> None:
    metronome.add_job(
        job,
        "interval",
        seconds=every.total_seconds(),
        id=name,
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
        **more,
    )


async def ticks(
    settings: Settings, pool: Pool, metrics: Metrics, process: Process, *, now: datetime | None = None
) -> None:
    """Tick until nothing more is due within the horizon, each tick a transaction of its own.

    Where much is due two ticks are under way: one plans while the server writes what the other has planned.
    They are as safe beside each other as those of two schedulers.
    """
    log = telemetry.logger("scheduler.tick")
    turn = asyncio.Lock()

    async def one(only: Sequence[UUID] | None = None) -> bool:
        async with db.transaction(pool) as conn:
            async with turn:
                drawn = await draw(
                    conn, settings.horizon, settings.misfire_grace, settings.tick_batch, only=only, now=now
                )
            done = await write(conn, drawn, now=now)
            await workers.beat_scheduler(conn, process, max(LATE, 3 * settings.tick_interval))
        metrics.materialised.inc(done.occurrences)
        if done.occurrences:
            log.debug("tick.done", tasks=done.tasks, occurrences=done.occurrences)
        return done.more

    async def lane(most: int) -> bool:
        more = True
        while more and most:
            most -= 1
            try:
                with metrics.tick_seconds.time():
                    more = await one()
            except SPOILT:
                await apart(pool, settings, one, now)
        return more

    if await lane(1):
        most = TICKS_IN_A_ROW // LANES
        for outcome in await asyncio.gather(*(lane(most) for _ in range(LANES)), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


def _guarded(
    name: str, round_: Callable[[], Awaitable[object]], under_way: set[asyncio.Task[bool]]
) -> Callable[[], Awaitable[None]]:
    """A job that logs its failures and is known to be under way, so that a stop can wait for it."""
    log = telemetry.logger(name)

    async def job() -> None:
        task = asyncio.ensure_future(attempted(round_, log))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        await asyncio.shield(task)

    return job


def main() -> None:
    """Entry of a process of its own: settings come through the environment."""
    settings = settings_.load(dotenv=None)
    telemetry.configure(settings, reflex.mask)
    telemetry.capture()
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
