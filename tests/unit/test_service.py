"""A service: loops, outlives failures, wakes, stops, and does so five hundred times."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta

from structlog.testing import capture_logs

from engine.service import LONGEST_PAUSE, Service, attempted, ended, stop_signals
from engine.telemetry import logger
from tests.polling import others_run

NEVER, AT_ONCE = timedelta(hours=1), timedelta(0)


async def test_it_runs_until_it_is_stopped() -> None:
    """Rounds follow each other; `stop` ends the loop after the round that is under way."""
    rounds = []

    async def round_() -> None:
        rounds.append(1)
        if len(rounds) == 5:
            service.stop()

    service = Service("test", round_, AT_ONCE)
    async with asyncio.timeout(5):
        await service.run()
    assert len(rounds) == 5


async def test_wake_cuts_the_pause_short() -> None:
    """A wake-up begins the next round now, also one that came while a round was under way."""
    rounds = asyncio.Semaphore(0)

    async def round_() -> None:
        rounds.release()

    service = Service("test", round_, NEVER)
    task = asyncio.create_task(service.run())
    async with asyncio.timeout(5):
        for _ in range(3):
            await rounds.acquire()
            service.wake()
        await rounds.acquire()
        service.stop()
        await task


async def test_a_failure_is_logged_and_followed_by_a_growing_pause() -> None:
    """The pause doubles up to a limit, and one success resets it."""
    outcomes = iter([ValueError("a"), ValueError("b"), None, ValueError("c"), *[OSError()] * 20])

    async def round_() -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome

    service = Service("test", round_, AT_ONCE)
    with capture_logs() as logs:
        pauses = [await service._once() for _ in range(24)]
    assert pauses[0] < pauses[1]
    assert pauses[2] == AT_ONCE
    assert pauses[3] == pauses[0]
    assert pauses[-1] == LONGEST_PAUSE
    assert [line["event"] for line in logs] == ["service.failed"] * 23
    assert logs[0]["kind"] == "ValueError"


async def test_cancellation_is_no_failure() -> None:
    """`attempted` reports failures, and lets a cancellation through."""

    async def forever() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(attempted(forever, logger("test")))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_it_survives_five_hundred_starts_and_stops() -> None:
    """Nothing is left over between the lives of services."""
    before = len(asyncio.all_tasks())

    async def round_() -> None:
        """Nothing to do."""

    for _ in range(500):
        service = Service("test", round_, NEVER)
        task = asyncio.create_task(service.run())
        service.stop()
        async with asyncio.timeout(5):
            await task
    assert len(asyncio.all_tasks()) == before


async def test_signals_are_heard_each_time_and_only_within() -> None:
    """SIGTERM and SIGINT call back while the block runs; afterwards they are as before."""
    heard: list[int] = []
    arrived = asyncio.Event()

    def hear() -> None:
        heard.append(1)
        if len(heard) == 2:
            arrived.set()

    before = signal.getsignal(signal.SIGTERM)
    with stop_signals(hear):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(5):
            await arrived.wait()
    assert len(heard) == 2
    assert signal.getsignal(signal.SIGTERM) == before


async def test_tasks_end_although_one_swallows_a_cancellation() -> None:
    """As a pool does that hands out a connection at that moment: it is told once more."""
    told = 0

    async def stubborn() -> None:
        nonlocal told
        while told < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told += 1

    task = asyncio.create_task(stubborn())
    await others_run(1)
    await ended([task])
    assert (task.done(), told) == (True, 2)
