"""The seed format means the same as the v1 document it becomes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ValidationFailed
from engine.pipeline import convert, load_documents, parse_definition
from engine.retry import RetryPolicy
from tests.unit.pipeline.documents import SEED, problems_of


def task(**members: Any) -> dict[str, Any]:
    """The seed's example task with `members` in place of its own."""
    return SEED | members


def pipeline(*steps: dict[str, Any], **payload: Any) -> dict[str, Any]:
    """The seed's example task with other steps."""
    return task(payload={"pipeline": list(steps), **payload})


def test_the_seeds_own_task() -> None:
    """The task of the seed's integration test (seed 003)."""
    found = parse_definition(SEED)
    assert found.source_format == "seed"
    assert (found.name, found.title, found.description) == (None, "Test Task", "Integration test task")
    assert (found.schedule.kind, found.schedule.expr) == ("once", "2026-11-21T10:00:00.123456+00:00")
    assert found.created_by == "00000000-0000-0000-0000-000000000001"
    (echo,) = found.steps
    assert (echo.id, echo.uses, echo.arguments.render({})) == ("echo", "echo.message", {"text": "test"})


def test_the_seeds_pipeline_with_a_template() -> None:
    """A step that reads the saved result of another (seed 003, "Test Tool Integration")."""
    found = parse_definition(
        pipeline(
            {"id": "custom_step", "uses": "my-service.my-tool", "with": {"param1": "test-value", "param2": 200},
            "save_as": "custom_result"},
            {"id": "use_result", "uses": "echo.message", "with": {"text": "Result: ${steps.custom_result.result}"}},
        )
    )  # fmt: skip
    rendered = found.steps[1].arguments.render({"steps": {"custom_result": {"result": "ok"}}})
    assert rendered == {"text": "Result: ok"}


def test_everything_the_seed_can_say() -> None:
    """Policies of the task and of its steps."""
    found = parse_definition(
        task(
            schedule_kind="rrule", schedule_expr="FREQ=DAILY;BYHOUR=8", timezone="Europe/Chisinau", status="paused",
            priority=3,
            max_retries=3, backoff_strategy="linear", dedupe_key="daily", dedupe_window_seconds=60,
            concurrency_key="one${at}",
            payload={"params": {"a": 1}, "pipeline": [
                {"uses": "x.y", "timeout_seconds": 2.5, "max_retries": 0, "if": "params.a > 0"},
                {"id": "z", "uses": "x.y", "with": None, "save_as": None},
            ]},
        )
    )  # fmt: skip
    assert (found.schedule.timezone, found.status, found.priority, found.params) == (
        "Europe/Chisinau",
        "paused",
        3,
        {"a": 1},
    )
    assert found.retry == RetryPolicy(max_attempts=4, backoff="linear")
    assert (found.dedupe_key, found.dedupe_window) == ("daily", timedelta(seconds=60))
    assert found.concurrency == {"key": "one$${at}", "limit": 1, "on_conflict": "queue"}
    first, second = found.steps
    assert first.retry is not None
    assert (first.id, first.timeout, first.retry.max_attempts) == ("step_1", timedelta(seconds=2.5), 1)
    assert first.condition is not None
    assert second.retry is None


@pytest.mark.parametrize(
    ("kind", "expr"),
    [
        ("cron", "30 8 * * *"),
        ("event", "email.received"),
        ("every", "15m"),
        ("manual", ""),
        ("manual", None),
        ("rrule", "FREQ=DAILY"),
    ],
)
def test_kinds_of_schedule(kind: str, expr: str | None) -> None:
    """Each kind of the seed is the kind of the same name."""
    spec = parse_definition(task(schedule_kind=kind, schedule_expr=expr)).schedule
    assert (spec.kind, spec.expr) == (kind, expr or "")


def test_seed_and_v1_are_equal_definitions() -> None:
    """The normalised document is v1, and reading it gives an equal definition."""
    found = parse_definition(SEED)
    assert found.document["apiVersion"] == "duework/v1"
    again = parse_definition(found.document)
    assert again == found
    assert again.source_format == "v1"


REFUSED = [
    (task(schedule_knd="x"), "/schedule_knd", "unknown_key", "did you mean 'schedule_kind'?"),
    (task(schedule_kind="condition"), "/schedule_kind", "not_allowed", "probe"),
    (task(schedule_kind="cron", schedule_expr="* *"), "/schedule_expr", "cron", ""),
    (task(schedule_kind="cron", schedule_expr=""), "/schedule_expr", "wrong_length", ""),
    (task(timezone="Mars"), "/timezone", "timezone", "Mars"),
    (task(priority=10), "/priority", "out_of_range", "at most 9"),
    (task(max_retries=-1), "/max_retries", "out_of_range", "at least 0"),
    (task(backoff_strategy="random"), "/backoff_strategy", "not_allowed", "fixed"),
    (task(payload={"params": {}}), "/payload", "missing", "'pipeline'"),
    (pipeline(), "/payload/pipeline", "wrong_length", "at least 1"),
    (pipeline({"id": "a"}), "/payload/pipeline/0", "missing", "'uses'"),
    (pipeline({"uses": "a b"}), "/payload/pipeline/0/uses", "wrong_form", ""),
    (pipeline({"uses": "a", "timeout_seconds": 1e12}), "/payload/pipeline/0/timeout_seconds", "duration", "longer"),
    (pipeline({"uses": "a", "with": {"x": "${steps.no.y}"}}), "/payload/pipeline/0/with/x", "unknown_step", "'no'"),
    (pipeline({"uses": "a", "if": "x ="}), "/payload/pipeline/0/if", "expression_syntax", "=="),
    (pipeline({"id": "a", "uses": "x"}, {"id": "a", "uses": "x"}), "/payload/pipeline/1/id", "duplicate_step", "'a'"),
    (task(name="Bad Name"), "/name", "wrong_form", "lower-case"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "pointer", "code", "detail"), REFUSED, ids=[f"{p}-{c}" for _, p, c, _ in REFUSED]
)
def test_problems_are_placed_where_the_author_wrote(
    document: dict[str, Any], pointer: str, code: str, detail: str
) -> None:
    """Pointers, lines and columns are those of the seed document, not of its v1 form."""
    (problem,) = problems_of(document)
    assert (problem.pointer, problem.code) == (pointer, code)
    assert detail in problem.detail
    (text,) = load_documents(json.dumps(document, indent=1))
    (placed,) = problems_of(text)
    assert placed.line == (text.position(pointer, key=code == "unknown_key") or (0, 0))[0]


texts = st.text(alphabet="ab ${}'#:é", max_size=8)
seed_steps = st.fixed_dictionaries(
    {"uses": st.sampled_from(["echo.message", "my-service.my-tool"])},
    optional={
        "with": st.none()
        | st.dictionaries(st.sampled_from(["text", "n"]), st.integers() | st.just("${params.a} b")),
        "if": st.sampled_from(["params.a > 0", "params.b == 'x'"]),
        "timeout_seconds": st.none() | st.integers(1, 600) | st.just(2.5),
        "max_retries": st.none() | st.integers(0, 5),
    },
)
seed_tasks = st.fixed_dictionaries(
    {
        "title": st.just("A task"),
        "description": texts.filter(str.strip),
        "payload": st.fixed_dictionaries(
            {"pipeline": st.lists(seed_steps, min_size=1, max_size=3)},
            optional={"params": st.dictionaries(st.sampled_from("abc"), st.integers() | texts)},
        ),
    },
    optional={
        "timezone": st.sampled_from(["UTC", "Europe/Chisinau"]),
        "priority": st.integers(1, 9),
        "max_retries": st.integers(0, 9),
        "backoff_strategy": st.sampled_from(["fixed", "linear", "exponential_jitter"]),
        "dedupe_key": st.none() | texts,
        "dedupe_window_seconds": st.integers(0, 3600),
        "concurrency_key": st.none() | texts,
        "status": st.sampled_from(["active", "paused"]),
    },
)
kinds = st.sampled_from(
    [
        ("cron", "30 8 * * *"),
        ("event", "email.received"),
        ("every", "15m"),
        ("manual", ""),
        ("rrule", "FREQ=DAILY"),
    ]
)


@given(seed_tasks, kinds)
def test_a_converted_seed_document_says_the_same(task: dict[str, Any], kind: tuple[str, str]) -> None:
    """Whatever of the seed format is accepted becomes a v1 file that reads as an equal definition."""
    seed = task | {"schedule_kind": kind[0], "schedule_expr": kind[1]}
    try:
        expected = parse_definition(seed)
    except ValidationFailed:  # a key of nothing but spaces, say
        with pytest.raises(ValidationFailed):
            convert(seed)
        return
    (again,) = load_documents(convert(seed))
    assert "apiVersion" in again.value
    assert parse_definition(again) == expected
