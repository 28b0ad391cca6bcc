"""The budget: what tools report is counted wherever it was spent, and ends the run in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine.errors import ToolRejected, ToolUnavailable
from engine.tools.calls import Call, Parked
from tests.factories import step
from tests.stage import RUN, Stage, code


def used(tokens: Any = 0, **members: Any) -> dict[str, Any]:
    """An output that reports what it cost."""
    return {"usage": {"tokens": tokens, **members}}


async def test_a_spent_budget_lets_no_step_begin() -> None:
    """The step that is next fails, nobody excuses or repeats it, and on_failure is free."""
    stage = Stage(answers={"a": used(60), "b": used(50)})
    outcome = await stage.run(
        *(step(name, "t.once", on_error="continue", retry={"max_attempts": 2}) for name in "abc"),
        budget={"max_tokens": 100},
        retry={"max_attempts": 3},
        run=replace(RUN, last_attempt=False),
        on_failure=[step("z", "t.once")],
    )
    assert [name for name, _, _ in stage.calls] == ["a", "b", "z"]
    assert (outcome.status, code(outcome), outcome.retryable) == ("failed", "budget_exceeded", False)
    error = outcome.error or {}
    assert (error["step"], error["details"]) == ("c", {"limit": "max_tokens", "max": 100, "spent": 110})
    assert error["message"] == "the run has spent 110 of 100 tokens; budget.max_tokens ends it"
    assert [(one.step, one.status, one.tries) for one in outcome.steps] == [
        ("a", "succeeded", 1), ("b", "succeeded", 1), ("c", "failed", 0), ("z", "succeeded", 1)
    ]  # fmt: skip


async def test_a_run_that_is_done_may_have_spent_it_all() -> None:
    """Nothing is left that could not begin."""
    stage = Stage(answers={"a": used(cost_usd=0.5)})
    assert (await stage.run(step("a", "t.once"), budget={"max_cost_usd": 0.1})).status == "succeeded"


async def test_tries_and_items_count() -> None:
    """What a try used that failed in the end; what each item used, whichever fails."""
    stage = Stage(answers={"a": {**used(30), "n": "no integer"}})
    again = {"max_attempts": 9, "delay": "1ms", "on": ["output_invalid"]}
    outcome = await stage.run(step("a", "t.typed", retry=again), budget={"max_tokens": 60})
    assert (code(outcome), len(stage.calls)) == ("budget_exceeded", 2)
    assert outcome.steps[0].usage == {"tokens": 60}
    stage = Stage(answers={"each": used(1, cost_usd=0.25)})
    each = step("each", "t.again", foreach=list(range(9)), max_parallel=1, on_error="continue")
    outcome = await stage.run(each, budget={"max_cost_usd": 0.75})
    assert (code(outcome), len(stage.calls)) == ("budget_exceeded", 3)
    assert (outcome.error or {})["step"] == "each"


@pytest.mark.parametrize("reported", [True, -5, "many", None, [3]])
async def test_what_is_no_amount_counts_nothing(reported: Any) -> None:
    """A member of that name that means something else is none of the budget's business."""
    stage = Stage(answers={"a": used(reported), "b": {"usage": "3 %"}})
    steps = [step(name, "t.once") for name in "abc"]
    assert (await stage.run(*steps, budget={"max_tokens": 1})).status == "succeeded"


async def test_waits_and_attempts_forget_nothing() -> None:
    """Spent before a wait, by a failed try, by an earlier attempt: it is all there, and none of it twice."""

    async def twice(call: Call) -> Any:
        if not call.resumed:
            raise Parked(timedelta(hours=1))
        return used(10)

    failing = {**used(10), "n": "no integer"}
    stage = Stage(answers={"a": used(10), "b": failing, "c": twice, "d": ToolUnavailable("not now")})
    steps = [
        step("a", "t.again"),
        step("b", "t.typed", on_error="continue"),
        step("c", "t.again"),
        step("d", "t.once"),
    ]
    given: dict[str, Any] = {"budget": {"max_tokens": 50}, "retry": {"max_attempts": 3}}
    run = replace(RUN, last_attempt=False)
    parked = await stage.run(*steps, run=run, **given)
    assert parked.state is not None
    assert parked.state["usage"] == {"seconds": 0.0}, "the rest is in the records, which are checkpointed"
    stage.passed = timedelta(hours=1)
    failed = await stage.run(*steps, run=replace(run, state=parked.state, finished=parked.steps), **given)
    assert failed.status == "failed"
    finished = (*parked.steps, *(one for one in stage.kept if one.step == "c"))
    stage.answers["d"] = used(25)
    over = await stage.run(
        *steps,
        step("e", "t.once"),
        run=replace(RUN, attempt=2, state=failed.state or {}, finished=finished),
        **given,
    )
    assert (code(over), (over.error or {})["details"]["spent"]) == ("budget_exceeded", 55)


async def test_the_usage_of_a_failed_attempt_is_carried_by_the_state() -> None:
    """No checkpoint has it, since the step has to be called again."""
    stage = Stage(answers={"a": {**used(40), "n": "no integer"}})
    given: dict[str, Any] = {
        "budget": {"max_tokens": 50},
        "retry": {"max_attempts": 5, "on": ["output_invalid"]},
    }
    first = await stage.run(step("a", "t.typed"), run=replace(RUN, last_attempt=False), **given)
    assert (first.state or {})["usage"]["tokens"] == 40
    second = await stage.run(
        step("a", "t.typed"),
        run=replace(RUN, attempt=2, last_attempt=False, state=first.state or {}),
        **given,
    )
    assert (second.state or {})["usage"]["tokens"] == 80
    third = await stage.run(
        step("a", "t.typed"), run=replace(RUN, attempt=3, state=second.state or {}), **given
    )
    assert (code(third), len(stage.calls)) == ("budget_exceeded", 2)


async def test_what_was_paid_for_is_kept_even_if_it_could_be_repeated() -> None:
    """In a run with a budget a crash does not pay twice for what a harmless tool used."""
    given: tuple[tuple[dict[str, Any], list[str]], ...] = (({"budget": {"max_tokens": 5}}, ["a"]), ({}, []))
    for members, kept in given:
        stage = Stage(answers={"a": used(1)})
        await stage.run(step("a", "t.again"), **members)
        assert [one.step for one in stage.kept] == kept


async def test_time_in_workers_is_a_budget_too() -> None:
    """A step under way is cut off when it is over; time parked does not count, that of earlier leases does."""
    forever = asyncio.Event().wait
    stage = Stage(answers={"a": lambda: forever()})
    outcome = await stage.run(
        step("a", "t.once"), budget={"max_time_seconds": 0.05}, timeout="1h", on_failure=[step("z", "t.once")]
    )
    assert (outcome.status, code(outcome), outcome.retryable) == ("failed", "budget_exceeded", False)
    assert [(one.step, one.status) for one in outcome.steps] == [("a", "timed_out"), ("z", "succeeded")]
    spent = {"usage": {"seconds": 99.5}}
    stage = Stage(answers={"a": ToolRejected("no")})
    outcome = await stage.run(
        step("a", "t.once"), budget={"max_time_seconds": 99.5}, run=replace(RUN, state=spent)
    )
    assert (code(outcome), stage.calls) == ("budget_exceeded", [])


async def test_what_a_probe_used_is_counted_once() -> None:
    """The decision keeps its record, so the state that a failed attempt leaves does not name it again."""
    stage = Stage(answers={"probe": used(60), "a": ToolUnavailable("not now")})
    schedule = {"condition": {"every": "1m", "probe": {"uses": "t.once"}, "when": "`true`"}}
    given: dict[str, Any] = {
        "schedule": schedule,
        "budget": {"max_tokens": 100},
        "retry": {"max_attempts": 2},
    }
    run = replace(RUN, trigger="condition", last_attempt=False)
    failed = await stage.run(step("a", "t.once"), run=run, **given)
    stage.answers["a"] = "well"
    again = replace(run, attempt=2, state=failed.state or {}, finished=tuple(stage.kept))
    assert (await stage.run(step("a", "t.once"), run=again, **given)).status == "succeeded"


async def test_a_submission_brings_a_budget_of_its_own() -> None:
    """Beside that of its pipeline: of each limit the smaller one holds. Other runs' parameters are none."""
    for trigger, asked, begun in (("submit", 10, 1), ("submit", 99, 2), ("run_now", 10, 2)):
        stage = Stage(answers={"a": used(10), "b": used(20)})
        run = replace(RUN, trigger=trigger, params={"budget": {"max_tokens": asked, "max_cost_usd": 9}})
        outcome = await stage.run(
            *(step(name, "t.once") for name in "abc"), budget={"max_tokens": 30}, run=run
        )
        assert (code(outcome), len(stage.calls)) == ("budget_exceeded", begun)


async def test_what_is_no_budget_is_none() -> None:
    """A parameter `budget` that a definition gives may be anything; it ends no run."""
    for budget in ("high", 7, ["max_tokens"], {"max_tokens": "10", "max_cost_usd": True}, {"other": 1}, {}):
        stage = Stage(answers={"a": used(10)})
        run = replace(RUN, trigger="submit", params={"budget": budget})
        assert (
            await stage.run(step("a", "t.once"), budget={"max_tokens": 30}, run=run)
        ).status == "succeeded"
