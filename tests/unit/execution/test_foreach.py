"""What a foreach promises: the list, its items, their failures, and how it is taken up again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine.errors import ToolRejected, ToolUnavailable, ValidationFailed
from engine.execution.foreach import ITEMS
from engine.pipeline import parse_definition
from engine.tools.calls import Call, Parked
from tests.factories import document, step
from tests.polling import others_run
from tests.stage import MAIL, RUN, Stage, code


def each(items: Any, uses: str = "t.once", **members: Any) -> dict[str, Any]:
    """A step `each` over `items`, called with the item and its index."""
    return step("each", uses, foreach=items, with_={"x": "${item}", "i": "${index}"}, **members)


def failing(*indexes: int, error: Exception | None = None) -> Any:
    """Answers {"got": item}, but for some items with an error."""

    async def answer(call: Call) -> Any:
        if call.item in indexes:
            raise error or ToolRejected(f"not {call.item}")
        return {"got": call.item}

    return answer


async def test_each_item_is_a_call_of_its_own() -> None:
    """With `item` and `index`, a key and a row of its own; the output is the list of outputs."""
    stage = Stage()
    outcome = await stage.run(each(["a", {"b": 1}, None], save_as="all"), output="${steps.all}")
    assert outcome.output == [{"x": "a", "i": 0}, {"x": {"b": 1}, "i": 1}, {"x": None, "i": 2}]
    keys = [call.idempotency_key for _, _, call in stage.calls]
    assert keys == [f"{RUN.run_id}:each:{n}" for n in range(3)]
    assert [call.item for _, _, call in stage.calls] == [0, 1, 2]
    assert len({call.traceparent for _, _, call in stage.calls}) == 3
    rows = [(one.step, one.item, one.status, one.tries, one.output) for one in outcome.steps]
    assert rows[0] == ("each", None, "succeeded", 3, None), "what the items hold is not held twice"
    assert rows[1] == ("each", 0, "succeeded", 1, {"x": "a", "i": 0})
    assert [row[1] for row in rows] == [None, 0, 1, 2]


async def test_the_list_may_be_a_template_and_outputs_keep_its_order() -> None:
    """However the items end: the last one first."""
    turns = [asyncio.Event() for _ in range(4)]
    turns[3].set()

    async def in_reverse(call: Call) -> Any:
        await turns[call.item or 0].wait()
        if call.item:
            turns[call.item - 1].set()
        return call.item

    stage = Stage(answers={"source": {"list": [5, 6, 7, 8]}, "each": in_reverse})
    outcome = await stage.run(
        step("source", "t.again"),
        each("${steps.source.list}", max_parallel=4),
        output="${steps.each}",
        timeout="30s",
    )
    assert outcome.output == [0, 1, 2, 3]


@pytest.mark.parametrize(("given", "most"), [({}, 1), ({"max_parallel": 3}, 3)])
async def test_max_parallel_bounds_the_items_under_way(given: dict[str, Any], most: int) -> None:
    """One at a time unless more are allowed."""
    under_way: set[int | None] = set()
    seen = 0

    async def counted(call: Call) -> Any:
        nonlocal seen
        under_way.add(call.item)
        seen = max(seen, len(under_way))
        await others_run(3)
        under_way.remove(call.item)

    stage = Stage(answers={"each": counted})
    outcome = await stage.run(each(list(range(10)), **given))
    assert (outcome.status, seen, len(stage.calls)) == ("succeeded", most, 10)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": 1}, "an object came"),
        ("abc", "a text came"),
        (True, "a boolean came"),
        (3, "a number came"),
        (None, "null came"),
        (list(range(ITEMS + 1)), f"at most {ITEMS}"),
        (["x" * 20_000], "the list has 20004 bytes"),
    ],
)
async def test_what_is_no_list_is_said(value: Any, said: str) -> None:
    """The step fails before it is called, with what came instead."""
    stage = Stage()
    outcome = await stage.run(each("${params.x}"), run=replace(RUN, params={"x": value}))
    assert (code(outcome), stage.calls) == ("input_invalid", [])
    assert said in (outcome.error or {})["message"]
    excused = await Stage().run(
        each("${params.x}", on_error="continue"), run=replace(RUN, params={"x": value})
    )
    assert excused.status == "succeeded"


async def test_nothing_to_run_over_is_an_empty_list() -> None:
    """And `if` decides once, before the list is looked at."""
    stage = Stage()
    outcome = await stage.run(
        each([]),
        step("not", "t.once", foreach="${params.none}", if_="`false`"),
        output="${[steps.each, status.each, steps.not, status.not]}",
    )
    assert outcome.output == [[], "succeeded", None, "skipped"]
    assert stage.calls == []


async def test_a_failed_item_fails_the_step_after_those_under_way() -> None:
    """No other item begins; the error names the first, and says how many failed of how many."""
    together = asyncio.Barrier(3)

    async def answer(call: Call) -> Any:
        if call.item in (0, 1, 2):
            await together.wait()
        if call.item == 1:
            raise ToolUnavailable("not 1")
        if call.item == 2:
            raise ToolRejected("not 2")
        return call.item

    stage = Stage(answers={"each": answer})
    outcome = await stage.run(each(list(range(9)), max_parallel=3), step("next", "t.once"), timeout="30s")
    assert (outcome.status, code(outcome), outcome.retryable) == ("failed", "rejected", False)
    error = outcome.error or {}
    assert (error["step"], error["message"]) == (
        "each", "2 of 9 items failed: item 1: not 1; item 2: not 2"
    )  # fmt: skip
    assert (error["details"]["failed"], error["details"]["items"]) == (2, 9)
    assert len(stage.calls) == 3
    assert [(one.item, one.status) for one in outcome.steps] == [
        (None, "failed"), (0, "succeeded"), (1, "failed"), (2, "failed")
    ]  # fmt: skip


async def test_errors_of_many_items_are_counted_not_listed() -> None:
    """Three are told; whether the run may be tried again is up to them all."""
    error = ToolUnavailable("not now")
    stage = Stage(answers={"each": failing(*range(50), error=error)})
    outcome = await stage.run(each(list(range(50)), max_parallel=50))
    assert (code(outcome), outcome.retryable) == ("unavailable", True)
    assert (outcome.error or {})["message"].startswith("50 of 50 items failed: item 0: not now; item 1:")
    assert len((outcome.error or {})["details"]["first"]) == 3


@pytest.mark.parametrize(
    ("on_error", "third"),
    [("continue", None), ({"value": "${[item, index, error.code]}"}, [7, 2, "rejected"])],
)
async def test_on_error_excuses_items_one_by_one(on_error: Any, third: Any) -> None:
    """All are called; null or the value stands in the place of those that failed."""
    stage = Stage(answers={"each": failing(2, 4)})
    outcome = await stage.run(each([9, 8, 7, 6], on_error=on_error), output="${[steps.each, status.each]}")
    assert outcome.output == [[{"got": 0}, {"got": 1}, third, {"got": 3}], "failed"]
    assert [one.status for one in outcome.steps] == [
        "failed",
        "succeeded",
        "succeeded",
        "failed",
        "succeeded",
    ]
    assert (outcome.steps[0].error or {})["message"] == "1 of 4 items failed: item 2: not 2"


async def test_each_item_has_tries_of_its_own() -> None:
    """One that needs three does not use up those of the next."""
    left = {0: 2, 1: 0, 2: 2}

    async def sometimes(call: Call) -> Any:
        if left[call.item or 0]:
            left[call.item or 0] -= 1
            raise ToolUnavailable("not now")
        return "well"

    stage = Stage(answers={"each": sometimes})
    outcome = await stage.run(each(["a", "b", "c"], retry={"max_attempts": 3, "delay": "1ms"}))
    assert outcome.status == "succeeded"
    assert [one.tries for one in outcome.steps] == [7, 3, 1, 3]
    assert [call.attempt for _, _, call in stage.calls] == [1, 2, 3, 1, 1, 2, 3]


async def test_a_list_is_fixed_and_done_items_are_not_called_again() -> None:
    """The next attempt goes on with the list of the first, whatever its source says by then."""
    steps = [
        step("source", "t.again"),
        each("${steps.source}"),
        step("end", "t.again", with_={"n": "${steps.each}"}),
    ]
    first = Stage(answers={"source": ["a", "b", "c"], "each": failing(1, error=ToolUnavailable("not now"))})
    assert (
        await first.run(*steps, retry={"max_attempts": 2}, run=replace(RUN, last_attempt=False))
    ).status == "failed"
    assert first.order[1:3] == ["checkpoint each", "call each"], "the list is kept before anything is called"
    again = Stage(answers={"source": ["x"]})
    outcome = await again.run(*steps, run=replace(RUN, attempt=2, finished=tuple(first.kept)))
    assert outcome.status == "succeeded"
    calls = [(call.item, arguments["x"]) for name, arguments, call in again.calls if name == "each"]
    assert calls == [(1, "b"), (2, "c")]
    assert again.calls[-1][1] == {"n": [{"got": 0}, {"x": "b", "i": 1}, {"x": "c", "i": 2}]}
    assert [(one.step, one.item, one.attempt) for one in outcome.steps] == [
        ("source", None, 2), ("each", None, 2), ("each", 0, 1), ("each", 1, 2), ("each", 2, 2), ("end", None, 2)
    ]  # fmt: skip


async def test_every_item_is_checkpointed_before_the_next() -> None:
    """Where the tool must not be called twice; an idempotent one is not slowed down."""
    stage = Stage()
    await stage.run(each([1, 2]))
    assert stage.order == ["checkpoint each", "call each", "checkpoint each", "call each", "checkpoint each"]
    assert [(one.item, one.status) for one in stage.kept] == [
        (None, "running"),
        (0, "succeeded"),
        (1, "succeeded"),
    ]
    stage = Stage()
    await stage.run(each([1, 2], "t.again"))
    assert stage.order == ["checkpoint each", "call each", "call each"]


@pytest.mark.parametrize("after", [False, True])
async def test_an_item_that_begins_to_wait_when_another_has_failed_holds_nothing_up(after: bool) -> None:
    """The step has failed as soon as no item is being called, whichever of the two comes first; nothing is parked."""
    failed = asyncio.Event()

    async def answer(call: Call) -> Any:
        if call.item:
            await failed.wait()
            raise Parked(timedelta(hours=1))
        failed.set()
        raise ToolRejected("not 0")

    stage = Stage(answers={"each": answer, "bad": ToolRejected("no")})
    list_ = each([0, 1, 2], max_parallel=2)
    if after:
        outcome = await stage.run(step("bad", "t.once"), on_failure=[list_])
    else:
        outcome = await stage.run(list_)
    assert (outcome.status, (outcome.error or {})["step"]) == ("failed", "bad" if after else "each")
    assert [(one.item, one.status) for one in outcome.steps if one.step == "each"] == [
        (None, "failed"), (0, "failed"), (1, "canceled")
    ]  # fmt: skip


@pytest.mark.parametrize("on_error", ["fail", "continue", {"value": 1}])
async def test_what_the_gate_refuses_in_an_item_ends_the_run(on_error: Any) -> None:
    """No policy of the step excuses it, and nothing of it is kept."""
    stage = Stage(answers={"each": {"mail": MAIL}})
    outcome = await stage.run(each([1, 2, 3], on_error=on_error))
    assert (outcome.status, code(outcome), len(stage.calls)) == ("blocked", "gate_blocked", 1)
    assert MAIL not in str(outcome) + str(stage.kept)


async def test_the_gate_sees_the_list_before_it_is_stored() -> None:
    """What two harmless parts make together is refused, and no checkpoint has it."""
    stage = Stage()
    outcome = await stage.run(each("${[join('@', ['zoe.quick', 'fastmail.com'])]}"))
    assert (outcome.status, stage.calls, stage.kept) == ("blocked", [], [])
    assert MAIL not in str(outcome)


def test_a_list_names_no_secret() -> None:
    """It would be stored; the definition is refused with the place where it may stand."""
    with pytest.raises(ValidationFailed, match="a secret never is") as caught:
        parse_definition(document(steps=[each("${[secrets.TOKEN]}")]))
    assert [(one.pointer, one.code) for one in caught.value.errors] == [("/steps/0/foreach", "unknown_root")]
