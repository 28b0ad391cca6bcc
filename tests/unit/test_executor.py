"""The executor with tools of the test's own: the order of things, and what is never done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine.errors import LeaseLost, NotFound, StoreUnavailable, ToolError, ToolRejected, ToolUnavailable
from engine.executor import run_pipeline
from engine.pipeline import parse_definition
from engine.plan import Outcome, prepare
from engine.storable import check_storable
from tests.factories import document, step
from tests.stage import MAIL, RUN, SECRET, Stage, catalog, code


async def test_steps_run_in_order_and_see_what_came_before() -> None:
    """Outputs are read by id and by save_as, a condition that fails skips, and the output is rendered last."""
    stage = Stage(answers={"a": {"n": 1}})
    outcome = await stage.run(
        step("a", "t.again", save_as="first"),
        step("b", "t.again", with_={"n": "${steps.first.n}", "city": "${params.city}"}, if_="steps.a.n == 1"),
        step("c", "t.again", if_="steps.a.n > 1"),
        output="${[status.b, status.c, steps.b.city]}",
    )
    assert (outcome.status, outcome.output) == ("succeeded", ["succeeded", "skipped", "Chisinau"])
    assert stage.calls[1][1] == {"n": 1, "city": "Chisinau"}
    assert [record.status for record in outcome.steps] == ["succeeded", "succeeded", "skipped"]


async def test_only_what_may_not_happen_twice_is_checkpointed_before_the_next_step() -> None:
    """A step whose tool is not idempotent is written down before the next one begins."""
    stage = Stage()
    await stage.run(step("a", "t.once"), step("b", "t.again"), step("c", "t.once"))
    assert stage.order == ["call a", "checkpoint a", "call b", "call c", "checkpoint c"]


async def test_a_finished_step_is_not_called_again() -> None:
    """The next attempt takes a checkpointed output as it was, and keys its calls as the first one did."""
    first = Stage(answers={"a": {"n": 5}, "b": ToolUnavailable("not now")})
    steps = [step("a", "t.once"), step("b", "t.once", with_={"n": "${steps.a.n}"})]
    assert (await first.run(*steps)).status == "failed"
    again = Stage()
    outcome = await again.run(*steps, run=replace(RUN, attempt=2, fence=50, finished=tuple(first.kept)))
    assert [name for name, _, _ in again.calls] == ["b"]
    assert again.calls[0][1] == {"n": 5}
    keys = {call.idempotency_key for stage in (first, again) for name, _, call in stage.calls if name == "b"}
    assert keys == {f"{RUN.run_id}:b"}
    assert [stage.calls[-1][2].fence for stage in (first, again)] == [42, 50]
    assert [(record.step, record.attempt) for record in outcome.steps] == [("a", 1), ("b", 2)]


async def test_a_bad_input_reaches_no_tool() -> None:
    """Neither a schema that is violated, nor a template without an answer, nor what the gate refuses."""
    for arguments, expected in (
        ({"m": 1}, "input_invalid"),
        ({"n": "${from_json('{')}"}, "input_invalid"),
        ({"n": "${from_json('\"\\ud800\"')}"}, "input_invalid"),
        ({"n": "${from_json('\"\\u0000\"')}"}, "input_invalid"),
        ({"n": "mail ${join('@', ['zoe.quick', 'fastmail.com'])}"}, "gate_blocked"),
        ({"n": "${secrets.NOT_SET}"}, "input_invalid"),
    ):
        stage = Stage()
        outcome = await stage.run(step("a", "t.strict", with_=arguments))
        assert (code(outcome), stage.calls) == (expected, []), arguments
        assert MAIL not in str(outcome)


async def test_a_bad_output_goes_no_further() -> None:
    """Against the schema, not JSON, too large, not storable, or refused by the gate: nothing of it is kept."""
    for answer, expected in (
        ({"n": "one"}, "output_invalid"),
        ({"x": object()}, "output_invalid"),
        ({"x": float("nan")}, "output_invalid"),
        ({"x": "y" * 20_000}, "output_invalid"),
        ({"x": "\x00"}, "output_invalid"),
        ({"x": "\ud800"}, "output_invalid"),
        ({"x": f"write to {MAIL}"}, "gate_blocked"),
    ):
        stage = Stage(answers={"a": answer})
        outcome = await stage.run(step("a", "t.typed"), step("b", "t.again"))
        assert code(outcome) == expected, answer
        assert [name for name, _, _ in stage.calls] == ["a"]
        assert outcome.steps[0].output is None
        assert MAIL not in str(outcome)


async def test_an_error_can_be_stored_whatever_it_says() -> None:
    """What a tool says of its failure holds nothing that a row of the step could not."""
    told = {"n": float("nan"), "s": {"x": "a\x00\ud800"}, "o": [object]}
    stage = Stage(answers={"a": ToolError("a\x00b\ud800", details=told)})
    outcome = await stage.run(step("a", "t.once", on_error="continue"))
    error = outcome.steps[0].error or {}
    assert check_storable(error, 10_000)
    assert error["message"] == "a\ufffdb\ufffd"
    assert [record.error for record in stage.kept] == [error]


async def test_secrets_are_put_in_at_the_last_moment_and_taken_out_at_the_first() -> None:
    """The tool sees the secret; the records, the outputs and the errors see its name."""
    stage = Stage(answers={"b": ToolError(f"refused {SECRET}", details={"sent": SECRET})})
    with_ = {"header": "Bearer ${secrets.TOKEN}"}
    outcome = await stage.run(
        step("a", "t.once", with_=with_), step("b", "t.once", with_={"t": "${steps.a.header}"})
    )
    assert stage.calls[0][1] == {"header": f"Bearer {SECRET}"}
    assert stage.calls[1][1] == {"t": "Bearer [SECRET:TOKEN]"}, (
        "an output is data, and holds no secret any more"
    )
    assert SECRET not in str(outcome)
    assert SECRET not in str(stage.kept)
    assert outcome.steps[0].input == {"header": "Bearer [SECRET:TOKEN]"}
    assert outcome.error is not None
    assert "[SECRET:TOKEN]" in outcome.error["message"]


@pytest.mark.parametrize("uses", ["event.publish", "task.run_now"])
async def test_a_tool_that_stores_its_input_gets_no_secret(uses: str) -> None:
    """A secret in an event or in another run's params would be a row."""
    given: dict[str, Any] = {"event.publish": {"topic": "t", "payload": {"x": "${secrets.TOKEN}"}}}
    given["task.run_now"] = {"task": "t", "params": {"x": "${secrets.TOKEN}"}}
    stage = Stage()
    outcome = await stage.run(step("a", uses, with_=given[uses]))
    assert (code(outcome), stage.calls) == ("input_invalid", [])


async def test_a_value_that_stands_in_for_a_failure_passes_the_gate_too() -> None:
    """`on_error: {value}` is an output like any other: under the default policy an address in it ends the run."""
    stage = Stage(answers={"a": ToolRejected("no")})
    stands_in = {"value": {"to": "${params.city}"}}
    run = replace(RUN, params={"city": MAIL})
    outcome = await stage.run(step("a", "t.once", on_error=stands_in, with_={"n": 1}), run=run)
    assert (outcome.status, code(outcome)) == ("blocked", "gate_blocked")
    assert MAIL not in str([one.as_dict() for one in outcome.steps])


async def test_a_text_that_imitates_a_secret_stays_a_text() -> None:
    """Only names that the definition asked for are ever revealed."""
    stage = Stage(answers={"a": {"x": "\ue000aaaaaaaaaaaaaaaa:TOKEN\ue001 [SECRET:TOKEN]"}})
    await stage.run(step("a", "t.again"), step("b", "t.again", with_={"x": "${steps.a.x}"}))
    assert SECRET not in str(stage.calls)


async def test_time_is_limited_for_steps_and_for_the_run() -> None:
    """A step that takes too long is cancelled and failed; a run that does so is timed_out."""
    cancelled = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    stage = Stage(answers={"a": forever})
    outcome = await stage.run(step("a", "t.once", timeout="20ms"))
    assert (outcome.status, code(outcome), outcome.steps[0].status) == ("failed", "timeout", "timed_out")
    outcome = await Stage(answers={"a": forever}).run(step("a", "t.once"), timeout="20ms")
    assert (outcome.status, code(outcome), outcome.retryable) == ("timed_out", "timeout", True)
    assert cancelled == [1, 1]


@pytest.mark.parametrize("error", [LeaseLost("gone"), StoreUnavailable("away")])
async def test_what_is_not_the_runs_failure_leaves_the_executor(error: Exception) -> None:
    """A lost lease and an outage of the store end the attempt without an outcome, whatever on_error says."""
    stage = Stage(answers={"a": error})
    again = {"max_attempts": 3, "delay": "1ms"}
    with pytest.raises(type(error)):
        await stage.run(
            step("a", "t.once", on_error="continue", retry=again), on_failure=[step("z", "t.again")]
        )
    assert [name for name, _, _ in stage.calls] == ["a"]


async def test_a_short_wait_keeps_the_worker_and_a_long_one_parks() -> None:
    """Retries of a step wait inline up to a second; beyond that the run is parked with the tries it has had."""
    failing = {"a": ToolUnavailable("not now")}
    stage = Stage(answers=dict(failing))
    inline = await stage.run(
        step("a", "t.once", retry={"max_attempts": 3, "delay": "1ms", "backoff": "fixed"})
    )
    assert (inline.status, inline.steps[0].tries, len(stage.calls)) == ("failed", 3, 3)
    long = step("a", "t.once", retry={"max_attempts": 2, "delay": "2m", "backoff": "fixed"})
    stage = Stage(answers=dict(failing))
    parked = await stage.run(long)
    assert (parked.status, parked.delay) == ("parked", timedelta(minutes=2))
    assert isinstance(parked.state, Mapping)
    woken = await stage.run(long, run=replace(RUN, state=parked.state))
    assert (woken.status, woken.state) == ("parked", parked.state), "nobody is called before the time"
    stage.passed = timedelta(minutes=2)
    resumed = await stage.run(long, run=replace(RUN, state=parked.state))
    assert (resumed.status, resumed.steps[0].tries) == ("failed", 2)


@pytest.mark.parametrize(("given", "tries"), [({}, 3), ({"retry": {"max_attempts": 1}}, 1)])
async def test_the_tools_retry_counts_where_the_step_has_none(given: dict[str, Any], tries: int) -> None:
    """What the catalog says about trying again is a default; the step's own word is the last."""
    outcome = await Stage(answers={"a": ToolUnavailable("not now")}).run(step("a", "t.patient", **given))
    assert outcome.steps[0].tries == tries


async def test_the_same_run_renders_alike_in_every_attempt() -> None:
    """`now` belongs to the run: a retry an hour later sends the same."""
    sent = []
    for attempt in (1, 2):
        stage = Stage()
        await stage.run(
            step("a", "t.once", with_={"at": "${now}", "in": "${now+24h}"}), run=replace(RUN, attempt=attempt)
        )
        sent.append(stage.calls[0][1])
    assert sent[0] == sent[1]
    assert sent[0]["at"] == "2026-03-02T12:00:00Z"


PROBED = replace(RUN, trigger="condition")


def probing(uses: str = "t.again", when: str = "n > 1", **members: Any) -> dict[str, Any]:
    """A schedule that looks at what the test's own tool answers."""
    probe = {"uses": uses, "with": {"city": "${params.city}"}} | members
    return {"condition": {"every": "1m", "probe": probe, "when": when}}


@pytest.mark.parametrize("uses", ["t.once", "t.again"])
@pytest.mark.parametrize("n", [1, 2])
async def test_a_probe_is_called_and_its_answer_decided_on(uses: str, n: int) -> None:
    """What the condition comes to is handed over with the record, which nobody else checkpoints; then the steps."""
    stage = Stage(answers={"probe": {"n": n}})
    step_ = step("a", "t.again", with_={"n": "${steps.probe.n}", "was": "${status.probe}"})
    outcome = await stage.run(step_, run=PROBED, schedule=probing(uses), output="${steps.probe}")
    assert stage.order == ["call probe", f"decide {n > 1}", "call a"]
    assert stage.calls[0][1] == {"city": "Chisinau"}
    assert stage.calls[0][2].idempotency_key == f"{RUN.run_id}:probe"
    assert stage.calls[1][1] == {"n": n, "was": "succeeded"}
    assert [(one.step, one.position) for one in outcome.steps] == [("probe", 0), ("a", 1)]
    assert outcome.output == {"n": n}


async def test_where_nothing_follows_nothing_is_called_or_kept() -> None:
    """Neither steps, nor output, nor what follows a failure."""
    stage = Stage(follow=False)
    failing = [step("z", "t.again")]
    outcome = await stage.run(
        step("a", "t.once"), run=PROBED, schedule=probing(), on_failure=failing, output="x"
    )
    assert outcome == Outcome("skipped")
    assert stage.order == ["call probe", "decide False"]


async def test_a_probe_that_was_decided_on_is_not_asked_again() -> None:
    """The next attempt goes on with the answer of the first."""
    first = Stage(answers={"probe": {"n": 7}, "a": ToolUnavailable("not now")})
    await first.run(step("a", "t.again"), run=PROBED, schedule=probing())
    again = Stage(follow=False)
    run = replace(PROBED, attempt=2, finished=tuple(first.kept))
    outcome = await again.run(
        step("a", "t.again", with_={"n": "${steps.probe.n}"}), run=run, schedule=probing()
    )
    assert (outcome.status, again.order) == ("succeeded", ["call a"])
    assert again.calls[0][1] == {"n": 7}
    assert [one.step for one in outcome.steps] == ["probe", "a"]


async def test_a_run_that_was_asked_for_decides_nothing() -> None:
    """Run-now and retry make the probe, for what the steps read of it, and go on whatever it says."""
    stage = Stage(answers={"probe": {"n": 0}}, follow=False)
    outcome = await stage.run(step("a", "t.again"), run=RUN, schedule=probing("t.once"))
    assert (outcome.status, stage.order) == ("succeeded", ["call probe", "checkpoint probe", "call a"])


@pytest.mark.parametrize(
    ("answer", "when", "expected"),
    [
        (ToolUnavailable("not now"), "n > 1", ("failed", "unavailable", "failed")),
        ({"n": MAIL}, "n > 1", ("blocked", "gate_blocked", "blocked")),
        ({"n": "{"}, "from_json(n) > 1", ("failed", "output_invalid", "failed")),
    ],
)
async def test_a_probe_without_an_answer_fails_the_run(
    answer: Any, when: str, expected: tuple[str, str, str]
) -> None:
    """A call that fails, what the gate refuses, and a condition that cannot be told: the run ends at the probe."""
    stage = Stage(answers={"probe": answer})
    failing = [step("z", "t.again")]
    outcome = await stage.run(
        step("a", "t.again"), run=PROBED, schedule=probing(when=when), on_failure=failing
    )
    assert (outcome.status, code(outcome), outcome.steps[0].status) == expected
    assert (outcome.error or {})["step"] == "probe"
    assert stage.order == ["call probe", "remember", "call z"]
    assert MAIL not in str(outcome)


def test_a_tool_that_is_not_in_the_catalog_cannot_be_called() -> None:
    """The plan is refused before anything runs, with the nearest name."""
    with pytest.raises(NotFound, match=r"did you mean 'core\.echo'"):
        prepare(parse_definition(document(steps=[step("a", "core.ecko")])), catalog())


def test_the_seeds_way_to_try_a_pipeline() -> None:
    """`run_pipeline` of the development guide works as it stands there, without a database."""
    task = {
        "payload": {
            "pipeline": [
                {"id": "test", "uses": "echo.message", "with": {"text": "Hello World"}},
                {"id": "next", "uses": "echo.message", "with": {"text": "${params.who}"}, "save_as": "said"},
            ],
            "params": {"who": "you"},
        }
    }
    result = run_pipeline(task)
    assert result["steps"] == {
        "test": {"text": "Hello World"},
        "next": {"text": "you"},
        "said": {"text": "you"},
    }
    assert result["params"] == {"who": "you"}
    assert result["now"].endswith("Z")


def test_a_pipeline_that_fails_says_so() -> None:
    """The step's error is raised, and tools that need a database say that there is none."""
    with pytest.raises(ToolError, match="asked to fail"):
        run_pipeline({"payload": {"pipeline": [{"id": "a", "uses": "core.fail"}]}})
    with pytest.raises(ToolError, match="needs a database"):
        run_pipeline(
            {"payload": {"pipeline": [{"id": "a", "uses": "sql.query", "with": {"sql": "SELECT 1"}}]}}
        )
