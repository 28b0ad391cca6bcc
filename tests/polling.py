"""The one place where tests wait: for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def poll_until(condition: Callable[[], Awaitable[T]], timeout: float = ...) -> T: ...
@overload
async def poll_until(condition: Callable[[], T], timeout: float = ...) -> T: ...
async def poll_until(condition: Callable[[], Any], timeout: float = 120.0) -> Any:
    """The first true answer of `condition`, sync or async. Raises AssertionError after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        answer = condition()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if loop.time() > deadline:
            name = getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"{name} was not true within {timeout} s; its last answer was {value!r}")
        await asyncio.sleep(0.02)


async def others_run(turns: int = 5) -> None:
    """Let the other tasks of the loop have some turns, without any time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)
