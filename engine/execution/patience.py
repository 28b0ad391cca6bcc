"""A limit of time that only those pay for who wait: most calls of tools within the process answer at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from datetime import timedelta
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(limit: timedelta, call: Awaitable[T]) -> T:
    """As `async with asyncio.timeout(…)` around the call, whose timer is made once the call has to wait.

    Raises TimeoutError; the time runs from here.
    """
    ends = asyncio.get_running_loop().time() + limit.total_seconds()
    steps = call.__await__()
    try:
        waited = next(steps)
    except StopIteration as done:
        answer: T = done.value
        return answer
    async with asyncio.timeout_at(ends):
        return await _rest(steps, waited)


@coroutine
def _rest(steps: Generator[Any, Any, T], waited: Any) -> Generator[Any, Any, T]:
    """What is left of a call that has begun, and waits for `waited`."""
    while True:
        try:
            yield waited
        except asyncio.CancelledError as error:  # all that a task ever throws into what it waits for
            try:
                waited = steps.throw(error)
            except StopIteration as done:
                answer: T = done.value
                return answer
        else:
            return (yield from steps)
