"""One list of everything that is wrong: shape, meaning and tools, all at once and each in its place."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import ValidationFailed
from engine.pipeline import Document, examine, load_documents
from tests.unit.pipeline.documents import SEED, small, step
from tests.unit.pipeline.test_lint import CATALOG

WRONG = """\
apiVersion: duework/v1
kind: Pipeline
schedule: {cron: "0 8 * * *", rrule: FREQ=DAILY}
titel: x
timeout: 10x
steps:
  - {id: a, uses: core.ecko, with: {x: "${parms.y}"}, reties: 2}
  - {id: b, uses: core.echo, needs: [b], if: 5}
  - {id: c, uses: core.echo, needs: [aa], on_error: {val: 1}}
"""
EXPECTED = [
    (3, 11, "one_of",
    "schedule: give exactly one of rrule, cron, every, once, event, condition, manual (found cron, rrule)"),
    (4, 1, "unknown_key", "unknown key 'titel'; did you mean 'title'?"),
    (5, 10, "duration", "'10x' is not a duration"),
    (7, 19, "unknown_tool", "there is no tool 'core.ecko' in the catalog; did you mean 'core.echo'?"),
    (7, 43, "unknown_root", "unknown name 'parms'; did you mean 'params'?"),
    (7, 55, "unknown_key", "unknown key 'reties'"),
    (8, 37, "cycle", "'b' needs itself"),
    (8, 46, "wrong_type", "must be string or boolean, not integer"),
    (9, 38, "unknown_step", "there is no step 'aa'; did you mean 'a'?"),
    (9, 53, "any_of", "must be fail, continue, or {value: …} (found val)"),
]  # fmt: skip


def test_shape_meaning_and_tools_are_told_at_once() -> None:
    """Ten slips of three sorts are one list in the order of the text."""
    (document,) = load_documents(WRONG, "wrong.yaml")
    found = examine(document, CATALOG).errors
    assert [(each.line, each.column, each.code) for each in found] == [case[:3] for case in EXPECTED]
    for problem, (*_, detail) in zip(found, EXPECTED, strict=True):
        assert problem.detail.startswith(detail)
    with pytest.raises(ValidationFailed, match="and 9 more"):
        examine(document, CATALOG).accepted()


ONLY: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    # what stands in for a faulty part is never itself told of
    (step(id="1a", **{"with": {"x": "${steps.a1}"}}), [("/steps/0/id", "wrong_form")]),
    (small(steps=["core.echo"], output="${steps.one}"), [("/steps/0", "wrong_type")]),
    (small(steps={}, output="${steps.one}"), [("/steps", "wrong_type")]),
    (small(steps=[{"uses": "core.echo", "with": {"x": "${steps.one}"}}]), [("/steps/0", "missing")]),
    (step(foreach=5, **{"with": {"x": "${item}"}}), [("/steps/0/foreach", "wrong_type")]),
    (step(save_as="a b", **{"with": {"x": "${steps.ab}"}}), [("/steps/0/save_as", "wrong_form")]),
    (small(params=[], params_schema={"required": ["a"]}, schedule={"every": "1h"}), [("/params", "wrong_type")]),
    (small(schedule={"condition": {"every": "1m"}}, output="${steps.probe}"),
    [("/schedule/condition", "missing")] * 2),
    (small(schedule={"every": "1h", "catchup": {}, "timezone": "Mars"}),
    [("/schedule/catchup", "missing"), ("/schedule/timezone", "timezone")]),
    (small(schedule=[], on_failure=3), [("/on_failure", "wrong_type"), ("/schedule", "wrong_type")]),
    ({"apiVersion": "duework/v1"}, [("", "missing")] * 3),
]  # fmt: skip


@pytest.mark.parametrize(("document", "expected"), ONLY, ids=[str(n) for n in range(len(ONLY))])
def test_a_fault_of_shape_brings_no_others_with_it(
    document: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """Nothing is told that mending the shape alone would make go away."""
    found = examine(Document(document), CATALOG).errors
    assert [(each.pointer, each.code) for each in found] == expected


def test_circles_are_told_one_by_one() -> None:
    """Two circles in one document are two problems."""
    needs = {"a": ["b"], "b": ["a"], "c": ["c"], "d": ["a"]}
    steps = [{"id": name, "uses": "core.echo", "needs": wanted} for name, wanted in needs.items()]
    found = examine(Document(small(steps=steps)), CATALOG).errors
    assert [(each.pointer, each.code) for each in found] == [
        ("/steps/0/needs", "cycle"),
        ("/steps/2/needs", "cycle"),
    ]


def test_unknown_tools_are_told_of_documents_that_do_not_parse() -> None:
    """Steps, failure steps, probes, and the seed's pipeline."""
    probe = {"every": "1m", "probe": {"uses": "no.probe"}, "when": "a ="}
    wrong = small(schedule={"condition": probe}, on_failure=[{"id": "f", "uses": "no.alert"}])
    found = [(each.pointer, each.code) for each in examine(Document(wrong), CATALOG).errors]
    assert ("/schedule/condition/probe/uses", "unknown_tool") in found
    assert ("/on_failure/0/uses", "unknown_tool") in found
    seed = examine(Document(SEED | {"priority": 99}), CATALOG).errors
    assert [each.pointer for each in seed] == ["/payload/pipeline/0/uses", "/priority"]


def test_what_is_well_has_a_definition_and_warnings() -> None:
    """Warnings keep nothing from being used."""
    examined = examine(Document(step(max_parallel=3)), CATALOG)
    assert examined.accepted().steps[0].id == "one"
    assert [each.code for each in examined.warnings] == ["no_effect"]
