"""Concurrency keys: what they are made of, who shares one, and which faults show with the definition."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import ValidationFailed
from engine.pipeline import parse_definition
from engine.pipeline.keys import concurrency_key, shared_key
from tests.unit.pipeline.documents import small

TIMED, MANUAL = {"every": "1m"}, {"manual": True}


def limited(schedule: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A definition with a limit under this schedule."""
    return small(schedule=schedule, concurrency=members.pop("concurrency"), **members)


@pytest.mark.parametrize(
    ("concurrency", "schedule", "expected"),
    [
        ({}, TIMED, "task:job"),
        ({}, MANUAL, "task:job"),
        ({"key": "job"}, MANUAL, "key:job"),
        ({"key": "task:job"}, MANUAL, "key:task:job"),
        ({"key": "one$${at}"}, MANUAL, "key:one${at}"),
        ({"key": "${params.city}"}, TIMED, "key:Bonn"),
        ({"key": "${params.city}"}, MANUAL, None),
        ({"key": "${params.city}"}, {"event": "order.*"}, None),
        ({"on_conflict": "allow", "key": "printer"}, TIMED, None),
    ],
)
def test_the_key_that_all_runs_of_a_task_share(
    concurrency: dict[str, Any], schedule: dict[str, Any], expected: str | None
) -> None:
    """A literal key, and for a schedule every key; without one the task's name, which no literal key equals."""
    definition = parse_definition(limited(schedule, concurrency=concurrency, params={"city": "Bonn"}))
    assert shared_key(definition, "job") == expected


def test_the_key_of_one_run_is_made_of_its_own_parameters() -> None:
    """Parameters, event and trigger of the run decide; what is not text becomes text."""
    document = limited(MANUAL, concurrency={"key": "${params.n}/${event.id}/${trigger.kind}"})
    assert concurrency_key(document, "job", "event", {"n": [1]}, {"id": "e"}) == "key:[1]/e/event"


@pytest.mark.parametrize("key", ["${run.id}", "${now}", "${secrets.TOKEN}", "${steps.one}"])
def test_a_key_sees_nothing_that_every_run_has_of_its_own(key: str) -> None:
    """Neither the run nor its instant, nor what must not be stored."""
    with pytest.raises(ValidationFailed) as refused:
        parse_definition(limited(MANUAL, concurrency={"key": key}))
    assert [(one.code, one.pointer) for one in refused.value.errors] == [("unknown_root", "/concurrency/key")]


@pytest.mark.parametrize("value", ["", "  ", "x" * 501, "\u0000"])
def test_a_schedule_without_a_usable_key_is_refused(value: str) -> None:
    """Empty, blank, too long or not storable: said when the definition is checked, with the place."""
    with pytest.raises(ValidationFailed) as refused:
        parse_definition(limited(TIMED, concurrency={"key": "${params.x}"}, params={"x": value}))
    assert refused.value.errors[0].pointer in ("/concurrency/key", "/params/x")
