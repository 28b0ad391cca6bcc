"""Lint: what is legal and cannot work, or seldom means what it says; and conversion to format v1."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ValidationFailed
from engine.pipeline import Document, convert, examine, is_error, lint, load_documents, parse_definition
from engine.settings import Settings
from engine.tools.registry import load_catalog
from tests.unit.pipeline.documents import BRIEFING, SEED, briefing, small, step


@dataclass(frozen=True)
class Entry:
    """A catalog entry, as far as lint reads it."""

    input_schema: dict[str, Any] = field(default_factory=dict)
    output_schema: dict[str, Any] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


GET = Entry(
    {
        "type": "object",
        "required": ["url"],
        "additionalProperties": False,
        "properties": {"url": {"type": "string"}, "retries": {"type": "integer", "default": 3},
        "headers": {"type": "object"}},
    },
    {
        "properties": {
            "status": {"type": "integer"},
            "rows": {"items": {"properties": {"name": {}}}},
            "body": True,
            "open": {"properties": {"a": {}}, "additionalProperties": True},
        },
    },
)  # fmt: skip
CATALOG = {"core.echo": Entry(), "http.get": GET, "http.get@2": GET, "own": Entry(secrets=("ITS_KEY",))}


def found(definition: dict[str, Any]) -> list[tuple[str, str]]:
    """Pointer and code of each finding about what the definition says."""
    findings = lint(parse_definition(definition), CATALOG)
    return [(each.pointer, each.code) for each in findings if each.code != "not_available"]


def two(second: dict[str, Any], **first: Any) -> dict[str, Any]:
    """A definition of two steps: `get`, and one that has `second`."""
    return small(
        steps=[
            {"id": "get", "uses": "http.get", "with": {"url": "x"}, **first},
            {"id": "use", "uses": "core.echo", **second},
        ]
    )


def probing(when: str = "status > 200", given: Any = None, text: str = "") -> dict[str, Any]:
    """A definition whose probe fetches an address; `text` is what its one step is given."""
    probe = {"uses": "http.get", "with": {"url": "x"} if given is None else given}
    step_ = {"id": "one", "uses": "core.echo"} | ({"with": {"text": text}} if text else {})
    return small(schedule={"condition": {"every": "1m", "probe": probe, "when": when}}, steps=[step_])


KEY = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
"""In the form of a vendor's keys, and nobody's."""
GETTING = {"id": "one", "uses": "http.get", "with": {"url": "x"}}
CLEAN = [
    step(**{"if": True}), step(**{"if": "params.a"}), step(**{"if": "params.a || !(params.b)"}),
    two({"if": "steps.get.open.a"}), two({"if": "steps.get.status > 200"}),
    two({"if": "contains(steps.get.rows, 'a')"}),
    two({"if": "steps.get[0].status == 200", "with": {"a": "${steps.get[*].rows[].name}"}}, foreach=["a"]),
    step(foreach=["a"], max_parallel=4), step(timeout="1h") | {"timeout": "1h"}, step(retry={"max_attempts": 1}),
    step(retry={"on": ["timeout", "unavailable"]}), small(budget={"max_tokens": 5}),
    small(budget={"max_time_seconds": 5}, steps=[GETTING]), step(**{"with": {"key": "${secrets.KEY}"}}),
    probing(), probing("@"), probing("length(rows) > 0", text="${steps.probe.rows[0].name} ${status.probe}"),
    probing(given={"url": "${now}"}),
    small(), two({"with": {"a": "${steps.get.status}", "b": "${steps.get.rows[0].name}"}}),
    two({"with": {"a": "${steps.got.body.anything}"}}, save_as="got"), two({"with": {"a": "${steps.get.open.b}"}}),
    two({"with": {"a": "${steps.get}"}}), two({"if": "status.get == 'succeeded'"}), two({}, uses="http.get@2"),
    two({"with": {"a": "${steps}"}}, save_as="got"),
    step(uses="http.get", **{"with": {"url": "${params.u}", "headers": {"a": "${now}"}}}),
    step(uses="http.get", foreach=["a"], **{"with": {"url": "${item}"}}),
    two({"with": {"n": "${length(steps.get)}"}}, foreach=["a"]),
    small(params={"a": 1}, steps=[{"id": "one", "uses": "core.echo", "with": {"a": "${params.a}"}}]),
]  # fmt: skip


@pytest.mark.parametrize("definition", CLEAN)
def test_what_is_well_is_left_alone(definition: dict[str, Any]) -> None:
    """No finding where there is nothing to find."""
    assert found(definition) == []


FINDINGS = [
    (step(uses="http.gt"), "/steps/0/uses", "unknown_tool"), (step(uses="nope@3"), "/steps/0/uses", "unknown_tool"),
    (small(on_failure=[{"id": "f", "uses": "nope"}]), "/on_failure/0/uses", "unknown_tool"),
    (small(schedule={"condition": {"every": "1m", "probe": {"uses": "nope"}, "when": "a"}}),
    "/schedule/condition/probe/uses", "unknown_tool"),
    (probing(given={}), "/schedule/condition/probe/with", "input_schema"),
    (probing(given={"url": 5}), "/schedule/condition/probe/with/url", "input_schema"),
    (probing("stauts > 200"), "/schedule/condition/when", "output_schema"),
    (probing("!rows[0].name"), "/schedule/condition/when", "trap"),
    (probing(text="${steps.probe.rows[0].nam}"), "/steps/0/with/text", "output_schema"),
    (step(uses="http.get"), "/steps/0/with", "input_schema"),
    (step(uses="http.get", **{"with": {"url": 5}}), "/steps/0/with/url", "input_schema"),
    (step(uses="http.get", **{"with": {"url": "x", "headers": {"a": "${now}"}, "timeout": 1}}),
    "/steps/0/with/timeout", "input_schema"),
    (step(uses="http.get", **{"with": {"url": "x", "retries": "many"}}), "/steps/0/with/retries", "input_schema"),
    (two({"with": {"a": "${steps.get.stauts}"}}), "/steps/1/with/a", "output_schema"),
    (two({"with": {"a": "${steps.get.rows[0].nam}"}}), "/steps/1/with/a", "output_schema"),
    (two({"if": "steps.got.nope > 1"}, save_as="got"), "/steps/1/if", "output_schema"),
    (two({"with": {"a": "${steps.get.status}"}}, foreach=["a"]), "/steps/1/with/a", "output_schema"),
    (two({"with": {"a": "${steps.get[0].stauts}"}}, foreach=["a"]), "/steps/1/with/a", "output_schema"),
    (two({"with": {"a": "${steps.get[*].stauts}"}}, foreach=["a"]), "/steps/1/with/a", "output_schema"),
    (two({}, save_as="got"), "/steps/0/save_as", "unused"),
    (two({}, **{"with": {"url": "${steps.use.a}"}}), "/steps/0/with/url", "used_before"),
    (step(**{"with": {"a": "${steps.one.b}"}}), "/steps/0/with/a", "used_before"),
    (step(**{"if": "status.one == 'failed'"}), "/steps/0/if", "used_before"),
    (two({"needs": [], "with": {"a": "${steps.get.body}"}}), "/steps/1/with/a", "used_before"),
    (two({"if": "!params.a"}), "/steps/1/if", "trap"), (small(params={"a": "${now}"}), "/params/a", "not_rendered"),
    (small(schedule={"cron": "0 0 1 * 1"}), "/schedule/cron", "schedule"),
    (small(params={"city": 1}, steps=[{"id": "one", "uses": "core.echo", "with": {"a": "${params.ctiy}"}}]),
    "/steps/0/with/a", "unknown_param"),
    (small(params_schema={"properties": {"a": {}}}, output="${params.b}"), "/output", "unknown_param"),
    (step(**{"if": "'yes'"}), "/steps/0/if", "not_boolean"), (step(**{"if": "`5`"}), "/steps/0/if", "not_boolean"),
    (step(**{"if": "length(params)"}), "/steps/0/if", "not_boolean"),
    (step(**{"if": "now+1d"}), "/steps/0/if", "not_boolean"),
    (step(**{"if": "[params.a]"}), "/steps/0/if", "not_boolean"),
    (two({"if": "steps.get.status"}), "/steps/1/if", "not_boolean"),
    (two({"if": "steps.get[*].status"}, foreach=["a"]), "/steps/1/if", "not_boolean"),
    (two({"if": "steps.get"}, foreach=["a"]), "/steps/1/if", "not_boolean"),
    (probing("length(rows)"), "/schedule/condition/when", "not_boolean"),
    (step(max_parallel=4), "/steps/0/max_parallel", "no_effect"),
    (step(timeout="2h") | {"timeout": "1h"}, "/steps/0/timeout", "no_effect"),
    (step(retry={"max_attempts": 1, "on": ["timeout"]}), "/steps/0/retry/max_attempts", "no_effect"),
    (small(retry={"max_attempts": 1, "delay": "5s"}), "/retry/max_attempts", "no_effect"),
    (step(retry={"on": ["timeout", "store_unavailable"]}), "/steps/0/retry/on/1", "never_retried"),
    (small(retry={"on": ["input_invalid"]}), "/retry/on/0", "never_retried"),
    (small(budget={"max_tokens": 5}, steps=[GETTING]), "/budget/max_tokens", "never_spent"),
    (small(budget={"max_cost_usd": 5}, steps=[GETTING, GETTING | {"id": "two"}]),
    "/budget/max_cost_usd", "never_spent"),
    (small(params={"key": f"Bearer {KEY}"}), "/params/key", "secret"),
    (step(**{"with": {"headers": {"authorization": f"Bearer {KEY}"}}}),
    "/steps/0/with/headers/authorization", "secret"),
    (step(**{"with": {"list": [{"a/b": KEY}]}}), "/steps/0/with/list/0/a~1b", "secret"),
    (step(foreach=[KEY]), "/steps/0/foreach/0", "secret"),
    (step(on_error={"value": {"key": KEY}}), "/steps/0/on_error/value/key", "secret"),
    (small(output={"key": KEY}), "/output/key", "secret"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "pointer", "code"), FINDINGS, ids=[f"{p}-{c}-{n}" for n, (_, p, c) in enumerate(FINDINGS)]
)
def test_findings(definition: dict[str, Any], pointer: str, code: str) -> None:
    """One finding, where it stands."""
    assert found(definition) == [(pointer, code)]


PROBED = {"condition": {"every": "1m", "probe": {"uses": "core.echo"}, "when": "a"}}
REFUSED = [
    (small(dedupe={"key": "a", "window": "1h"}, schedule=PROBED), "/dedupe"),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "pointer"), REFUSED, ids=[pointer for _, pointer in REFUSED])
def test_what_is_not_executed_is_refused(definition: dict[str, Any], pointer: str) -> None:
    """A member that no run would honour is an error, because silence would be a promise."""
    errors = [each for each in lint(parse_definition(definition), CATALOG) if is_error(each)]
    assert [(each.pointer, each.code) for each in errors] == [(pointer, "not_available")]


def test_only_an_unknown_tool_is_an_error() -> None:
    """What cannot run at all is an error, the rest are warnings."""
    definitions = [parse_definition(definition) for definition, _, _ in FINDINGS]
    findings = [each for definition in definitions for each in lint(definition, CATALOG)]
    errors = [is_error(each) for each in findings if each.code != "not_available"]
    assert errors == [code == "unknown_tool" for _, _, code in FINDINGS]


def test_needs_are_followed_through() -> None:
    """A step may read whatever its needs need, and nothing that may run beside it."""
    steps = [
        {"id": "a", "uses": "core.echo"},
        {"id": "b", "uses": "core.echo", "needs": ["a"]},
        {"id": "c", "uses": "core.echo", "needs": ["b"], "with": {"a": "${steps.a}", "b": "${status.b}"}},
        {"id": "d", "uses": "core.echo", "needs": ["a"], "with": {"b": "${steps.b}"}},
    ]
    assert found(small(steps=steps)) == [("/steps/3/with/b", "used_before")]


def test_findings_have_lines_and_columns() -> None:
    """With the document at hand, each finding is placed in the text, seed documents in their own."""
    document = briefing()
    findings = lint(
        parse_definition(document), {"llm.plan": Entry({}, {"properties": {"txt": {}}})}, document
    )
    (output,) = [each for each in findings if each.code == "output_schema"]
    line = BRIEFING.split("\n")[(output.line or 0) - 1]
    assert line[(output.column or 0) - 1 :].startswith("steps.summary.text")
    assert "did you mean 'txt'?" in output.detail
    (unknown,) = lint(parse_definition(SEED), {}, Document(SEED))
    assert unknown.pointer == "/payload/pipeline/0/uses"


def test_the_full_example_is_clean() -> None:
    """Given a catalog that has its tools, the format's example has not one error and not one warning."""
    tools = load_catalog(Settings(catalog=Path(__file__).with_name("briefing_tools")))
    examined = examine(briefing(), tools.entries)
    assert examined.errors == ()
    assert examined.warnings == ()


def test_traps_and_secrets_are_placed_in_their_text() -> None:
    """At the very character, within templates and longer texts too."""
    text = (
        "apiVersion: duework/v1\nkind: Pipeline\nschedule: {manual: true}\nsteps:\n"
        f'  - {{id: one, uses: core.echo, with: {{a: "x ${{params.b && !params.a}}", b: "Bearer {KEY}"}}}}\n'
    )
    (document,) = load_documents(text)
    trap, secret = examine(document, CATALOG).warnings
    line = text.split("\n")[4]
    assert (trap.code, trap.line) == ("trap", 5)
    assert line[(trap.column or 0) - 1 :].startswith("!params.a")
    assert (secret.code, secret.line) == ("secret", 5)
    assert line[(secret.column or 0) - 1 :].startswith("ghp_")
    assert "${secrets.NAME}" in secret.detail


def test_a_catalog_of_unusable_schemas_is_not_the_definitions_fault() -> None:
    """Lint says nothing about what the catalog got wrong."""
    definition = parse_definition(step(**{"with": {"a": 1}}))
    assert lint(definition, {"core.echo": Entry({"type": "nope"}, {"properties": 3})}) == []


@pytest.mark.parametrize("document", [briefing(), SEED, small(), step(on_error={"value": None})])
def test_converted_documents_say_the_same(document: Any) -> None:
    """The YAML of `convert` reads back as an equal definition, and converting it again changes nothing."""
    text = convert(document)
    (again,) = load_documents(text)
    assert parse_definition(again) == parse_definition(document)
    assert convert(again) == text


def test_converted_seed_documents_read_like_v1() -> None:
    """The order of keys is the format's, and nothing of the seed is left."""
    text = convert(SEED)
    assert text.startswith("apiVersion: duework/v1\nkind: Pipeline\ntitle: Test Task\n")
    assert "schedule_kind" not in text
    assert "    uses: echo.message\n" in text


def test_what_is_not_valid_is_not_converted() -> None:
    """Conversion does not hide faults."""
    with pytest.raises(ValidationFailed):
        convert(small(steps=[]))


def test_a_tool_is_given_its_own_secrets_only() -> None:
    """Where the catalog says which those are, another one is an error at its place in the definition."""
    given = {"a": "Bearer ${secrets.ITS_KEY}", "b": ["${secrets.OTHER}"]}
    steps = [{"id": "x", "uses": "own", "with": given}, {"id": "y", "uses": "core.echo", "with": given}]
    problems = lint(parse_definition(small(steps=steps)), CATALOG)
    (problem,) = [each for each in problems if each.code == "secret_not_allowed"]
    assert (problem.pointer, is_error(problem)) == ("/steps/0/with/b/0", True)
    assert "may not be given the secret OTHER" in problem.detail
