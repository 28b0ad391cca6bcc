"""Secrets in a run: given to the tool, and hidden in everything that the outcome holds."""

from __future__ import annotations

import base64
import traceback
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from engine.errors import ToolRejected, ToolUnavailable
from engine.plan import Outcome
from engine.secrets import forms
from tests.factories import step
from tests.stage import RUN, SECRET, Stage, code
from workers.runner import hidden

TOKEN = {"n": "${secrets.TOKEN}"}


def clean(outcome: Outcome, stage: Stage) -> bool:
    """Whether nothing that leaves the worker holds a form of the secret."""
    text = f"{outcome}{stage.kept}"
    return not [form for form in forms(SECRET) if form in text]


ECHOES: list[Any] = [
    {"said": SECRET, SECRET: [f"Bearer {SECRET}"]},
    {"said": base64.b64encode(f"user:{SECRET}".encode()).decode(), "hex": SECRET.encode().hex()},
    {"url": f"https://example.org/?key={quote(SECRET)}"},
    ToolRejected(f"wrong key {SECRET}", details={"header": f"Bearer {SECRET}"}),
    ToolUnavailable(f"cannot reach https://{SECRET}@example.org"),
]


@pytest.mark.parametrize("answer", ECHOES)
@pytest.mark.parametrize("on_error", ["fail", "continue", {"value": {"was": "${error}"}}])
async def test_what_a_tool_sends_back_is_hidden(answer: Any, on_error: Any) -> None:
    """In outputs, errors, retries, later inputs, on_error values, on_failure steps and the pipeline's output."""
    stage = Stage(answers={"a": answer})
    retry = {"max_attempts": 2, "delay": "1ms"}
    outcome = await stage.run(
        step("a", "t.once", with_=TOKEN, on_error=on_error, retry=retry),
        step("b", "t.once", with_={"again": "${steps.a}"}),
        on_failure=[step("tell", "t.once", with_={"error": "${error}"})],
        output={"all": "${steps}", "key": "${secrets.TOKEN}"},
    )
    assert stage.calls[0][1] == {"n": SECRET}
    assert clean(outcome, stage)
    assert "[SECRET:TOKEN]" in str(outcome)


async def test_a_run_that_goes_on_hides_what_an_earlier_attempt_was_given() -> None:
    """The secret was given in a step that is finished; a later tool knows it and tells."""
    steps = [step("a", "t.once", with_=TOKEN), step("b", "t.once")]
    first = Stage(answers={"a": {}, "b": ToolUnavailable("not now")})
    await first.run(*steps)
    again = Stage(answers={"b": {"said": f"x{SECRET}x"}})
    outcome = await again.run(*steps, run=replace(RUN, attempt=2, finished=tuple(first.kept)))
    assert [name for name, _, _ in again.calls] == ["b"]
    assert outcome.status == "succeeded"
    assert clean(outcome, again)


@pytest.mark.parametrize(
    ("text", "status"), [("${secrets.TOKEN}", "succeeded"), ("x${secrets.TOKEN}", "failed")]
)
async def test_a_secret_is_held_against_the_schema_as_the_tool_sees_it(text: str, status: str) -> None:
    """Its own form fits a pattern and a length, or does not; the refusal quotes none of it."""
    stage = Stage()
    outcome = await stage.run(step("a", "t.hush", with_={"n": text}))
    assert outcome.status == status
    assert [arguments for _, arguments, _ in stage.calls] == [{"n": SECRET}] * (status == "succeeded")
    assert clean(outcome, stage)
    if status == "failed":
        assert code(outcome) == "input_invalid"


async def test_a_tool_is_given_its_own_secrets_only() -> None:
    """What its catalog entry does not name reaches it in no way; the run says which secret it was."""
    for given in (TOKEN, {"deep": [{"x": "Bearer ${secrets.TOKEN}"}]}):
        stage = Stage()
        outcome = await stage.run(step("a", "t.own", with_=given))
        assert (code(outcome), stage.calls) == ("input_invalid", [])
        assert "secret TOKEN is not among the secrets of this tool" in str(outcome.error)


async def test_a_missing_secret_is_named_and_not_tried_again() -> None:
    """It would be missing the next time too."""
    stage = Stage()
    outcome = await stage.run(step("a", "t.once", with_={"n": "${secrets.NOPE}"}, retry={"max_attempts": 5}))
    assert (code(outcome), stage.calls, outcome.retryable) == ("input_invalid", [], False)
    assert "secret NOPE is not set" in str(outcome.error)


async def test_a_defect_is_logged_without_the_secret() -> None:
    """A tool's own exception may quote it, and its traceback goes into the log."""
    stage = Stage(answers={"a": RuntimeError(f"bad header {SECRET!r}")})
    with pytest.raises(RuntimeError) as defect:
        await stage.run(step("a", "t.once", with_=TOKEN))
    told = hidden("".join(traceback.format_exception(defect.value)), stage.attempt)
    assert "bad header '[SECRET:TOKEN]'" in told
    assert SECRET not in told
