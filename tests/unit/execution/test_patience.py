"""A limit of time around a call: as asyncio's own, but made only for those that wait."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from engine.execution.patience import within
from tests.polling import others_run

AT_ONCE = timedelta(milliseconds=1)
EVER = timedelta(hours=1)


async def test_an_answer_at_once_needs_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that never waits is answered without any timer."""
    monkeypatch.delattr(asyncio, "timeout_at")

    async def answer() -> int:
        return 7

    assert await within(EVER, answer()) == 7


async def test_an_answer_after_waits_is_given() -> None:
    """A call that waits several times goes on after each."""

    async def answer() -> int:
        for _ in range(3):
            await others_run(1)
        return 7

    assert await within(EVER, answer()) == 7


async def test_a_call_that_waits_for_too_long_is_cancelled() -> None:
    """The call sees its cancellation, and the caller a TimeoutError."""
    seen = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        await within(AT_ONCE, wait())
    assert seen == ["cancelled"]


async def test_what_a_call_does_on_being_cancelled_is_waited_for() -> None:
    """It may wait on, and be cancelled again; cancelled from outside there is no TimeoutError."""
    begun, seen = asyncio.Event(), []

    async def stubborn() -> None:
        for turn in ("once", "twice"):
            try:
                begun.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append(turn)
                begun.clear()
        await others_run(1)
        raise asyncio.CancelledError

    task = asyncio.create_task(within(EVER, stubborn()))
    for _ in range(2):
        await begun.wait()
        task.cancel()
        await others_run(1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["once", "twice"]


async def test_errors_of_a_call_are_its_own() -> None:
    """Before its first wait and after it; StopIteration and TimeoutError included."""

    async def fail(waits: int, error: Exception) -> None:
        for _ in range(waits):
            await others_run(1)
        raise error

    for waits in (0, 1):
        for kind in (ValueError, TimeoutError):
            with pytest.raises(kind, match="mine"):
                await within(EVER, fail(waits, kind("mine")))
        with pytest.raises(RuntimeError, match="StopIteration"):
            await within(EVER, fail(waits, StopIteration("mine")))
