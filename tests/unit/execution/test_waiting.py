"""Waits: what goes on beside them, when the run is parked, and how it is taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine.errors import ToolRejected, ToolUnavailable
from engine.plan import Outcome, Run
from engine.tools.calls import Call, Parked
from tests.factories import step
from tests.polling import others_run
from tests.stage import NOW, RUN, Stage, code

HOUR = timedelta(hours=1)


def sleeps(hours: float, *, early: bool = False, called: bool = True) -> Any:
    """A tool that waits once; what may end early has an answer only when it is asked a third time."""
    asked = []

    async def answer(call: Call) -> Any:
        asked.append(call)
        if not call.resumed or (early and len(asked) < 3):
            raise Parked(timedelta(hours=hours), called=called, early=early)
        return {"slept": hours}

    return answer


def after(outcome: Outcome, **members: Any) -> Run:
    """The next lease of a parked run."""
    assert outcome.status == "parked", outcome
    return replace(RUN, state=state_of(outcome), finished=outcome.steps, **members)


def state_of(outcome: Outcome) -> Mapping[str, Any]:
    assert outcome.state is not None
    return outcome.state


def waits(hours: float, position: int) -> dict[str, Any]:
    """What the state says of a step that sleeps for so long."""
    wait = {"tries": 0, "resumed": True, "until": (NOW + hours * HOUR).isoformat(), "early": False}
    return wait | {"position": position, "tool": "t.once", "started_at": NOW.isoformat()}


async def test_while_one_step_waits_the_others_go_on() -> None:
    """The run parks when nothing else can go on, until the first of the waits ends; each then goes on in its time."""
    stage = Stage(answers={"long": sleeps(3), "short": sleeps(1)})
    steps = [
        step("long", "t.once", needs=[]),
        step("short", "t.once", needs=[]),
        step("beside", "t.once", needs=[]),
        step("next", "t.once", needs=["beside"]),
        step("after_short", "t.once", needs=["short"]),
        step("end", "t.once", needs=["long", "after_short"]),
    ]
    parked = await stage.run(*steps)
    assert (parked.status, parked.delay) == ("parked", HOUR)
    assert [name for name, _, _ in stage.calls] == ["long", "short", "beside", "next"]
    assert state_of(parked)["steps"] == {"long": waits(3, 0), "short": waits(1, 1)}
    stage.passed, stage.calls = HOUR, []
    again = await stage.run(*steps, run=after(parked))
    assert (again.status, again.delay) == ("parked", 2 * HOUR)
    assert [(name, call.resumed) for name, _, call in stage.calls] == [
        ("short", True),
        ("after_short", False),
    ]
    stage.passed, stage.calls = 3 * HOUR, []
    done = await stage.run(*steps, run=after(again))
    assert done.status == "succeeded"
    assert [name for name, _, _ in stage.calls] == ["long", "end"]
    (long,) = [one for one in done.steps if one.step == "long"]
    assert (long.started_at, long.finished_at) == (NOW, NOW + 3 * HOUR), "it began with its first call"


async def test_a_run_woken_early_asks_only_what_may_end_early() -> None:
    """An event asks who waits for one; a sleep and the delay before a retry go on in their own time."""
    stage = Stage(
        answers={"sleep": sleeps(5), "event": sleeps(9, early=True), "flaky": ToolUnavailable("no")}
    )
    retry = {"max_attempts": 2, "delay": "4h", "max_delay": "4h", "backoff": "fixed"}
    steps = [step(name, "t.once", needs=[]) for name in ("sleep", "event")]
    steps.append(step("flaky", "t.once", needs=[], retry=retry))
    parked = await stage.run(*steps)
    assert parked.delay == 4 * HOUR
    for hours, asked in ((1, ["event"]), (2, ["event"]), (3, [])):
        stage.passed, stage.calls = hours * HOUR, []
        parked = await stage.run(*steps, run=after(parked))
        assert [name for name, _, _ in stage.calls] == asked
        assert parked.delay == (4 - hours) * HOUR
    assert [(one.step, one.output) for one in parked.steps] == [("event", {"slept": 9})]


async def test_a_wait_that_could_not_begin_is_no_resumption() -> None:
    """A tool that could not be asked yet is called like the first time."""
    stage = Stage(answers={"a": sleeps(1, called=False)})
    parked = await stage.run(step("a", "t.once"))
    stage.passed = HOUR
    assert (await stage.run(step("a", "t.once"), run=after(parked))).status == "parked"
    assert [call.resumed for _, _, call in stage.calls] == [False, False]


async def test_the_state_of_older_versions_is_still_read() -> None:
    """A run that was parked before an upgrade goes on, with its tries."""
    stage = Stage(answers={"a": sleeps(1)})
    old = {"step": "a", "tries": 2, "resumed": True, "started_at": NOW.isoformat()}
    outcome = await stage.run(step("a", "t.once"), run=replace(RUN, state=old))
    assert (outcome.status, outcome.steps[0].tries) == ("succeeded", 3)


async def test_a_short_wait_is_spent_in_the_worker() -> None:
    """Up to a second nothing is written and nobody else has to take the run over."""
    stage = Stage(answers={"a": sleeps(1 / 3_600_000)})
    stage.passed = timedelta(0)

    async def passes() -> None:
        await others_run(1)
        stage.passed = HOUR

    passing = asyncio.ensure_future(passes())
    outcome = await stage.run(step("a", "t.once"))
    await passing
    assert (outcome.status, [call.resumed for _, _, call in stage.calls]) == ("succeeded", [False, True])


async def test_items_wait_side_by_side_and_keep_their_places() -> None:
    """Two of three may wait at a time; the third begins when one of them has ended."""
    stage = Stage(answers={"each": sleeps(1)})
    approvals = step("each", "t.once", foreach=["a", "b", "c"], max_parallel=2)
    parked = await stage.run(approvals)
    assert set(state_of(parked)["steps"]) == {"each:0", "each:1"}
    assert parked.steps == ()
    stage.passed, stage.calls = HOUR, []
    lists = tuple(stage.kept)
    again = await stage.run(approvals, run=replace(after(parked), finished=lists))
    assert [(call.item, call.resumed) for _, _, call in stage.calls] == [(0, True), (1, True), (2, False)]
    assert set(state_of(again)["steps"]) == {"each:2"}
    stage.passed, stage.calls = 2 * HOUR, []
    done = await stage.run(approvals, run=replace(after(again), finished=tuple(stage.kept)))
    assert (done.status, [call.item for _, _, call in stage.calls]) == ("succeeded", [2])


async def test_the_runs_time_goes_on_while_it_waits() -> None:
    """A parked run wakes when its time is over, and ends with a row for the step that waited."""
    stage = Stage(answers={"a": sleeps(5)})
    given: dict[str, Any] = {"timeout": "2h", "retry": {"max_attempts": 3}}
    parked = await stage.run(step("a", "t.once"), **given)
    assert (parked.delay, state_of(parked)["started_at"]) == (2 * HOUR, NOW.isoformat())
    stage.passed, stage.calls = 2 * HOUR, []
    outcome = await stage.run(step("a", "t.once"), run=after(parked, last_attempt=False), **given)
    assert (outcome.status, code(outcome), stage.calls) == ("timed_out", "timeout", [])
    assert [(one.step, one.status) for one in outcome.steps] == [("a", "timed_out")]
    assert (await stage.run(step("a", "t.once"), run=after(parked, attempt=2), **given)).status == "parked", (
        "another attempt has the whole of it"
    )


async def test_a_wait_outlives_the_failure_of_another_step() -> None:
    """The next attempt calls the failed step again and lets the other wait on; tries count from the beginning."""
    stage = Stage(
        answers={"wait": sleeps(5), "bad": ToolUnavailable("not now"), "late": ToolUnavailable("not now")}
    )
    retry = {"max_attempts": 2, "delay": "3h", "max_delay": "3h"}
    steps = [step("wait", "t.once", needs=[]), step("late", "t.once", needs=[], retry=retry)]
    steps.append(step("bad", "t.once", needs=["ok"]))
    steps.append(step("ok", "t.once", needs=[]))
    given: dict[str, Any] = {"retry": {"max_attempts": 2}}
    failed = await stage.run(*steps, run=replace(RUN, last_attempt=False), **given)
    assert (failed.status, code(failed)) == ("failed", "unavailable")
    assert list(state_of(failed)) == ["later"]
    assert state_of(failed)["later"] == {"wait": waits(5, 0)}
    stage.answers |= {"bad": "well", "late": "well"}
    stage.passed, stage.calls = HOUR, []
    again = await stage.run(
        *steps, run=replace(RUN, attempt=2, state=state_of(failed), finished=tuple(stage.kept))
    )
    assert sorted(name for name, _, _ in stage.calls) == ["bad", "late"]
    assert again.delay == 4 * HOUR


async def test_what_waits_when_a_run_has_failed_for_good_is_over() -> None:
    """It gets a row that says so."""
    stage = Stage(answers={"wait": sleeps(5), "bad": ToolRejected("no")})
    outcome = await stage.run(
        step("wait", "t.once", needs=[]), step("ok", "t.again", needs=[]), step("bad", "t.once", needs=["ok"])
    )
    assert outcome.status == "failed"
    assert [(one.step, one.status) for one in outcome.steps] == [
        ("wait", "canceled"), ("ok", "succeeded"), ("bad", "failed")
    ]  # fmt: skip


async def test_a_lease_given_back_is_taken_up_where_it_was() -> None:
    """What a drain interrupts keeps the tries it had, the interrupted one apart, and the beginning of its attempt."""
    begun = asyncio.Event()

    async def third_is_slow(call: Call) -> Any:
        if call.attempt < 3:
            raise ToolUnavailable("not now")
        begun.set()
        await asyncio.Event().wait()

    stage = Stage(answers={"a": third_is_slow})
    slow = step("a", "t.once", retry={"max_attempts": 5, "delay": "1ms"})
    run = asyncio.create_task(stage.run(slow))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert stage.attempt is not None
    state = stage.attempt.state()
    assert state["started_at"] == NOW.isoformat()
    stage.answers["a"] = "well"
    stage.passed = HOUR
    outcome = await stage.run(slow, run=replace(RUN, state=state))
    assert (outcome.status, outcome.steps[0].tries) == ("succeeded", 3)


async def test_on_failure_may_wait_too() -> None:
    """A run whose on_failure waits ends as it failed, and calls nothing twice."""
    stage = Stage(
        answers={"a": ToolRejected("no"), "first": {"seen": 1}, "nap": sleeps(1), "bad": ToolRejected("no")}
    )
    after_failure = [
        step("first", "t.once", with_={"was": "${error.code}", "ok": "${steps.ok}"}),
        step("bad", "t.once"),
        step("nap", "t.once"),
        step(
            "last",
            "t.once",
            with_={"was": "${error.step}", "seen": "${steps.first.seen}", "ok": "${steps.ok}"},
        ),
    ]
    steps = [step("ok", "t.once", with_={"n": 1}), step("a", "t.once")]
    parked = await stage.run(*steps, on_failure=after_failure)
    assert [name for name, _, _ in stage.calls] == ["ok", "a", "first", "bad", "nap"]
    stage.passed, stage.calls = HOUR, []
    outcome = await stage.run(*steps, on_failure=after_failure, run=after(parked))
    assert (outcome.status, code(outcome), (outcome.error or {})["step"]) == ("failed", "rejected", "a")
    assert [name for name, _, _ in stage.calls] == ["nap", "last"]
    assert stage.calls[-1][1] == {"was": "a", "seen": 1, "ok": {"n": 1}}
    assert [(one.step, one.status) for one in outcome.steps] == [
        ("ok", "succeeded"), ("a", "failed"), ("first", "succeeded"), ("bad", "failed"),
        ("nap", "succeeded"), ("last", "succeeded"),
    ]  # fmt: skip


async def test_a_run_that_was_given_up_has_only_on_failure_left() -> None:
    """What the reaper leaves calls none of the steps, and ends as it says."""
    given_up = {"failure": {"status": "expired", "error": {"code": "lease_expired", "message": "gone"}}}
    stage = Stage()
    outcome = await stage.run(
        step("a", "t.once"),
        on_failure=[step("z", "t.once", with_={"was": "${error.code}"})],
        run=replace(RUN, state=given_up),
    )
    assert (outcome.status, code(outcome)) == ("expired", "lease_expired")
    assert [(name, arguments) for name, arguments, _ in stage.calls] == [("z", {"was": "lease_expired"})]


async def test_on_failure_that_waits_leaves_no_wait_of_a_step_that_was_given_up() -> None:
    """Its row is written when the run has failed; the state names on_failure alone: a cancel would write it twice."""
    stage = Stage(answers={"wait": sleeps(5), "bad": sleeps(1), "nap": sleeps(1)})
    steps = [step("wait", "t.once", needs=[]), step("bad", "t.once", needs=[])]
    given: dict[str, Any] = {"on_failure": [step("nap", "t.once")]}
    parked = await stage.run(*steps, **given)
    stage.passed, stage.answers["bad"] = HOUR, ToolRejected("no")
    again = await stage.run(*steps, run=after(parked), **given)
    assert set(state_of(again)["steps"]) == {"nap"}
    assert [(one.step, one.status) for one in again.steps] == [("wait", "canceled"), ("bad", "failed")]


async def test_what_waited_when_a_run_was_given_up_has_a_row() -> None:
    """The reaper leaves the waits of the lease that was lost last; they are over."""
    stage = Stage(answers={"wait": sleeps(5)})
    parked = await stage.run(step("wait", "t.once"))
    error = {"code": "lease_expired", "message": "gone"}
    given_up = {**state_of(parked), "failure": {"status": "expired", "error": error}}
    run = replace(RUN, attempt=3, state=given_up)
    outcome = await stage.run(step("wait", "t.once"), on_failure=[step("z", "t.once")], run=run)
    assert [(one.step, one.status) for one in outcome.steps] == [("wait", "canceled"), ("z", "succeeded")]


async def test_a_delay_within_the_worker_that_a_drain_ends_keeps_its_try() -> None:
    """The try that failed before the delay counts; only one that is interrupted does not."""
    stage = Stage(answers={"a": ToolUnavailable("not now")})
    flaky = step("a", "t.once", retry={"max_attempts": 2, "delay": "900ms", "backoff": "fixed"})
    run = asyncio.create_task(stage.run(flaky))
    await others_run(9)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert stage.attempt is not None
    assert stage.attempt.state()["steps"]["a"]["tries"] == len(stage.calls) == 1


async def test_a_lease_lost_within_on_failure_does_not_begin_with_the_steps_again() -> None:
    """That the run has failed is kept before the first of them: what a park then checkpoints would seem excused."""
    stage = Stage(answers={"a": ToolRejected("no"), "nap": sleeps(1)})
    given: dict[str, Any] = {"on_failure": [step("first", "t.once"), step("nap", "t.once")]}
    steps = [step("a", "t.once"), step("b", "t.once")]
    parked = await stage.run(*steps, **given)
    assert stage.order == ["call a", "remember", "call first", "checkpoint first", "call nap"]
    lost = replace(RUN, attempt=2, state=stage.remembered, finished=parked.steps)
    stage.order.clear()
    again = await stage.run(*steps, run=lost, **given)
    assert (again.status, stage.order) == ("parked", ["call nap"])
    assert state_of(again)["failure"] == stage.remembered["failure"]
