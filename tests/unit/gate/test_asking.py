"""Judging with a gate that has to be waited for: what it is asked, and what a step comes to without its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from engine import reflex
from engine.errors import GateUnavailable
from engine.execution.calling import ASKING
from engine.gate.asking import Ask, judged
from engine.plan import Outcome
from engine.reflex import DEFAULT_POLICY, parse_policy, strictest
from engine.reflex.findings import Hit
from tests.polling import others_run
from tests.stage import MAIL, Stage, code

REDACT = strictest(parse_policy({"pii": "redact"}))


class Far:
    """A gate that finds `word`, and goes away before the question that is number `gone`."""

    def __init__(self, word: str = "20441", gone: int = 1000) -> None:
        self.word = word
        self.gone = gone
        self.texts: list[str] = []
        self.left: list[float] = []

    async def hits(self, text: str, until: float) -> Sequence[Hit]:
        self.left.append(until - asyncio.get_running_loop().time())
        self.texts.append(text)
        await others_run(1)
        if len(self.texts) > self.gone:
            raise GateUnavailable("the gate is away")
        at = text.find(self.word)
        return [Hit("pii", "phone", "far.away", at, at + len(self.word), 0.9, "")] if at >= 0 else []


async def verdict(ask: Ask | None, value: Any, policy: reflex.Policy = DEFAULT_POLICY) -> reflex.Verdict:
    judging = partial(reflex.judge, value, policy)
    return await judged(ask, 60, lambda search: judging(search=search))


async def test_without_one_the_patterns_here_are_asked() -> None:
    """The same verdict as without any waiting."""
    assert await verdict(None, {"to": MAIL}) == reflex.judge({"to": MAIL}, DEFAULT_POLICY)


async def test_it_is_asked_once_and_once_more_for_what_redacting_leaves() -> None:
    """No text twice, however often judging is begun again."""
    far = Far()
    assert (await verdict(far.hits, "all is well")).action == "pass"
    assert len(far.texts) == 1
    redacted = await verdict(far.hits, {"card": "20441"}, REDACT)
    assert (redacted.action, redacted.value) == ("redact", {"card": "[PHONE]"})
    assert len(far.texts) == len(set(far.texts)) == 3


async def run(far: Far, *steps: dict[str, Any], **members: Any) -> tuple[Outcome, Stage]:
    stage = Stage(ask=far.hits)
    return await stage.run(*steps, **members), stage


async def test_a_step_is_judged_by_what_it_finds() -> None:
    """On the way in and on the way out; secrets are not told to it."""
    far = Far()
    step = {"id": "a", "uses": "t.again", "with": {"card": "20441", "key": "${secrets.TOKEN}"}}
    outcome, stage = await run(far, step)
    assert (outcome.status, stage.calls) == ("blocked", [])
    assert "hush" not in "".join(far.texts)
    outcome, _ = await run(Far(), step, reflex={"pii": "redact"}, output="${steps.a.card}")
    assert (outcome.status, outcome.output) == ("succeeded", "[PHONE]")


ONE = {"id": "a", "uses": "t.again", "with": {"x": "all is well"}}
EACH = ONE | {"foreach": "${`[1, 2]`}"}


@pytest.mark.parametrize(
    ("gone", "steps", "calls"),
    [(0, [ONE], 0), (1, [ONE], 1), (2, [ONE], 1), (0, [EACH], 0), (1, [EACH], 0)],
    ids=["input", "output", "the run's output", "list", "item"],
)
async def test_what_it_does_not_answer_for_goes_nowhere(
    gone: int, steps: list[dict[str, Any]], calls: int
) -> None:
    """The run fails with an error that may be tried again; what was not judged is in no record."""
    outcome, stage = await run(Far(gone=gone), *steps, output="${steps.a}")
    assert (outcome.status, code(outcome), outcome.retryable) == ("failed", "gate_unavailable", True)
    assert len(stage.calls) == calls
    assert all(record.output is None for record in outcome.steps if record.status != "succeeded")
    assert outcome.output is None


async def test_a_value_that_stands_in_is_not_let_through_either() -> None:
    """on_error: {value} is an output, and one that nobody has judged."""
    step = ONE | {"on_error": {"value": {"x": "20441"}}}
    outcome, _ = await run(Far(gone=0), step)
    assert (outcome.status, code(outcome)) == ("failed", "gate_unavailable")


async def test_the_step_is_tried_again_as_its_rules_say() -> None:
    """A failure that may pass by itself, like a tool's."""
    far = Far(gone=0)
    outcome, stage = await run(far, {"id": "a", "uses": "t.patient", "with": {"x": "all is well"}})
    assert (code(outcome), stage.calls, len(far.texts)) == ("gate_unavailable", [], 3)


async def test_it_has_the_time_of_the_step_and_never_less_than_it_takes() -> None:
    """A step that is over soon must not fail for that, and be called again."""
    far = Far()
    await run(far, ONE | {"timeout": "40s"}, ONE | {"id": "b", "timeout": "1s"})
    assert all(ASKING < seconds <= 40 for seconds in far.left[:2])
    assert all(0 < seconds <= ASKING for seconds in far.left[2:])
