"""Condition schedules: the probe that goes before the steps, and the name that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from engine.pipeline import parse_definition
from tests.unit.pipeline.documents import problems_of, small


def condition(when: str = "rows[0].n > 0", probe: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A condition schedule whose probe has these members too."""
    return {"condition": {"every": "1m", "probe": {"uses": "sql.query", **(probe or {})}, "when": when}}


def test_the_probe_is_a_step_of_its_own() -> None:
    """Its input is a template that knows the run, its timeout a duration, and `when` sees its output alone."""
    given = {"params": ["${params.least}", "${now}", "${secrets.TOKEN}"]}
    schedule = condition("length(rows) > 1", {"with": given, "timeout": "3s", "retry": {"max_attempts": 2}})
    probe = parse_definition(small(schedule=schedule, params={"least": 3})).probe
    assert probe is not None
    assert (probe.step.id, probe.step.uses, probe.step.save_as) == ("probe", "sql.query", None)
    assert probe.step.timeout is not None
    assert probe.step.timeout.total_seconds() == 3
    assert probe.step.retry is not None
    assert probe.step.retry.max_attempts == 2
    assert probe.step.arguments.source == given
    assert probe.when.holds({"rows": [1, 2]})
    assert not probe.when.holds({"rows": [1]})
    assert parse_definition(small()).probe is None


def test_everything_may_read_what_the_probe_found() -> None:
    """Steps, the steps that follow a failure, and the output; where there is no probe there is no such step."""
    reads = {
        "steps": [
            {"id": "a", "uses": "core.echo", "with": {"n": "${steps.probe.rows[0].n} ${status.probe}"}}
        ],
        "on_failure": [{"id": "b", "uses": "core.echo", "with": {"n": "${steps.probe}"}}],
        "output": "${steps.probe.rows}",
    }
    assert problems_of(small(schedule=condition(), **reads)) == []
    assert {problem.code for problem in problems_of(small(**reads))} == {"unknown_step"}


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"steps": [{"id": "probe", "uses": "core.echo"}]}, "/steps/0/id"),
        ({"steps": [{"id": "a", "uses": "core.echo", "save_as": "probe"}]}, "/steps/0/save_as"),
        ({"on_failure": [{"id": "probe", "uses": "core.echo"}]}, "/on_failure/0/id"),
    ],
)
def test_no_step_takes_the_probes_name(members: dict[str, Any], pointer: str) -> None:
    """The name is the probe's where there is one, and anybody's elsewhere."""
    (problem,) = problems_of(small(schedule=condition(), **members))
    assert (problem.pointer, problem.code) == (pointer, "duplicate_step")
    assert "the schedule's probe" in problem.detail
    assert problems_of(small(**members)) == []


def test_a_probe_may_not_end_what_a_probe_has_begun() -> None:
    """A concurrency key may hold probes back; it may not make them cancel the run that follows one."""
    key = {"limit": 1, "on_conflict": "cancel_running"}
    (problem,) = problems_of(small(schedule=condition(), concurrency=key))
    assert (problem.pointer, problem.code) == ("/concurrency/on_conflict", "not_allowed")
    assert problems_of(small(schedule=condition(), concurrency=key | {"on_conflict": "skip"})) == []


@pytest.mark.parametrize(
    ("schedule", "pointer", "code"),
    [
        (condition("x >"), "/schedule/condition/when", "expression_syntax"),
        (condition(probe={"with": {"n": "${steps.a}"}}), "/schedule/condition/probe/with/n", "unknown_root"),
        (condition(probe={"with": {"n": "${event"}}), "/schedule/condition/probe/with/n", "template_syntax"),
        (condition(probe={"timeout": "soon"}), "/schedule/condition/probe/timeout", "duration"),
        (condition(probe={"retry": {"delay": "x"}}), "/schedule/condition/probe/retry/delay", "duration"),
        (condition(probe={"uses": "a b"}), "/schedule/condition/probe/uses", "wrong_form"),
        (condition() | {"catchup": {"policy": "all"}}, "/schedule/catchup/policy", "not_allowed"),
    ],
)
def test_faults_are_told_where_they_stand(schedule: dict[str, Any], pointer: str, code: str) -> None:
    """One problem each, and none about the steps that read the probe."""
    steps = [{"id": "a", "uses": "core.echo", "with": {"n": "${steps.probe.n}"}}]
    (problem,) = problems_of(small(schedule=schedule, steps=steps))
    assert (problem.pointer, problem.code) == (pointer, code)
