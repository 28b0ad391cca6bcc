"""Where judging, which waits for nothing, meets a gate that has to be waited for.

`engine.reflex.judge` calls a search and goes on at once. Here it is begun anew with every answer that came, until it
needs no other: a verdict asks once, and again for what redacting leaves. In process nobody is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from engine.reflex import Verdict
from engine.reflex.detection import hits as found_here
from engine.reflex.findings import Hit
from engine.reflex.judging import Search

Ask = Callable[[str, float], Awaitable[Sequence[Hit]]]
"""Asks what a text holds; the float is the instant of the event loop's clock after which nothing is tried again.

Raises GateUnavailable.
"""


class _Unasked(Exception):
    def __init__(self, text: str) -> None:
        self.text = text


async def judged(ask: Ask | None, seconds: float, judging: Callable[[Search], Verdict]) -> Verdict:
    """The verdict of `judging` with what `ask` finds, for which it has so many seconds; None is the gate in process.

    `judging` hands its argument to `judge` as `search`; it is called up to five times, so it must do nothing else.
    Raises GateUnavailable.
    """
    if ask is None:
        return judging(found_here)
    until = asyncio.get_running_loop().time() + seconds
    known: dict[str, Sequence[Hit]] = {}

    def search(text: str) -> Sequence[Hit]:
        if text not in known:
            raise _Unasked(text)
        return known[text]

    while True:
        try:
            return judging(search)
        except _Unasked as question:
            known[question.text] = await ask(question.text, until)
