"""Definitions in format v1: what they come to, and what is said of those that are wrong."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from engine.contract import compile_schema
from engine.pipeline import Document, load_documents, parse_definition
from engine.pipeline.shape import contract, schema
from engine.retry import RetryPolicy
from tests.unit.pipeline.documents import BRIEFING, SEED, SMALL, briefing, problems_of, small, step


def test_the_example_is_valid_by_the_published_schema() -> None:
    """Editors that use the schema and the parser agree on the full example."""
    assert contract("pipeline-v1").check(briefing().value) == []
    for name in ("pipeline-v1", "tool-v1", "seed-task"):
        compile_schema(schema(name))


def test_the_example_as_a_definition() -> None:
    """Every member of the format comes to what the format says."""
    found = parse_definition(briefing())
    assert (found.name, found.title, found.labels["tier"]) == ("morning-briefing", "Morning briefing", "2")
    assert (found.priority, found.timeout, found.pause_after_failures) == (4, timedelta(minutes=10), 5)
    assert found.retry == RetryPolicy(4, "exponential_jitter", timedelta(seconds=5), timedelta(minutes=5))
    assert found.concurrency == {"key": "briefing:${params.city}", "limit": 1, "on_conflict": "skip"}
    assert found.budget == {"max_tokens": 20000, "max_cost_usd": 0.5}
    assert found.reflex == {"pii": "redact", "injection": "block", "on": {"input", "output"}}
    assert found.source_format == "v1"
    assert found.is_graph
    assert [each.id for each in found.steps] == ["calendar", "weather", "enrich", "brief", "notify"]
    assert found.output is not None
    assert found.output.references == {"steps.summary"}
    assert [each.id for each in found.on_failure] == ["alert"]


def test_the_examples_schedule() -> None:
    """The schedule keeps what was written, and compiles to instants in its zone."""
    spec = parse_definition(briefing()).schedule
    assert (spec.kind, spec.timezone, spec.start) == ("rrule", "Europe/Chisinau", "2026-11-23T00:00:00")
    assert spec.options == {
        "gap": "shift", "fold": "first", "exdates": ["2026-12-25"], "jitter": "30s",
        "catchup": {"policy": "last", "window": "6h"},
    }  # fmt: skip
    assert spec.compile().next(None)[0].isoformat() == "2026-11-23T06:30:00+00:00"


def test_the_examples_steps() -> None:
    """Timeouts, retries, conditions, loops, fallbacks and policies of steps."""
    calendar, weather, enrich, brief, notify = parse_definition(briefing()).steps
    assert calendar.names == ("calendar", "events")
    assert calendar.timeout == timedelta(seconds=20)
    assert calendar.retry is not None
    assert calendar.retry.on == {"timeout", "unavailable", "rate_limited"}
    assert calendar.reflex == {"pii": "redact", "allow": {"email"}}
    assert weather.needs == ()
    assert isinstance(weather.on_error, dict)
    assert weather.on_error["value"].render({}) == {"temperature": None}
    assert enrich.condition is not None
    assert enrich.condition.holds({"steps": {"events": {"items": [1]}}})
    assert enrich.foreach is not None
    assert enrich.foreach.render({"steps": {"events": {"items": [1]}}}) == [1]
    assert (enrich.max_parallel, brief.needs, notify.save_as) == (4, ("enrich", "weather"), None)
    assert brief.arguments.references == {"steps.events", "params.city", "now"}


def test_the_smallest_definition_has_the_defaults() -> None:
    """What is left out is one attempt, priority 5, no limits."""
    found = parse_definition(SMALL)
    assert (found.name, found.priority, found.timeout, found.concurrency) == (None, 5, None, None)
    assert found.retry == RetryPolicy(max_attempts=1)
    (only,) = found.steps
    assert (only.on_error, only.needs, only.max_parallel, only.names) == ("fail", None, 1, ("one",))
    assert only.arguments.render({}) == {}
    assert not found.is_graph


@pytest.mark.parametrize("document", [briefing().value, SMALL, SEED, small(**{"x-shared": {"a": 1}})])
def test_the_stored_form_parses_to_the_same_definition(document: dict[str, Any]) -> None:
    """What task_version stores, by way of JSON and with any order of keys, gives an equal definition."""
    found = parse_definition(document)
    stored = json.loads(json.dumps(found.document, sort_keys=True))
    assert parse_definition(stored) == found
    assert parse_definition(stored).document == found.document


def test_parsing_leaves_the_document_alone() -> None:
    """The caller's own value is neither changed nor shared."""
    document = json.loads(json.dumps(step(**{"with": {"a": [1]}})))
    found = parse_definition(document)
    document["steps"][0]["with"]["a"].append(2)
    assert found.document["steps"][0]["with"] == {"a": [1]}


SCHEDULES = [
    ({"every": "15m"}, "every", "15m"), ({"every": 90}, "every", "90"),
    ({"cron": "30 8 * * 1-5"}, "cron", "30 8 * * 1-5"),
    ({"once": "2026-12-01T09:00:00", "timezone": "Europe/Chisinau"}, "once", "2026-12-01T09:00:00"),
    ({"manual": True}, "manual", ""), ({"event": "email.*"}, "event", "email.*"),
    ({"event": {"topic": "a.b", "filter": "payload.n > 1"}}, "event", "a.b"),
    ({"condition": {"every": "60s", "probe": {"uses": "sql.query"}, "when": "rows[0].n > 0"}}, "condition", "60s"),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "kind", "expr"), SCHEDULES, ids=[case[1] for case in SCHEDULES])
def test_each_kind_of_schedule(schedule: dict[str, Any], kind: str, expr: str) -> None:
    """Exactly one of seven, each with its text; events and conditions keep theirs in the options."""
    spec = parse_definition(small(schedule=schedule)).schedule
    assert (spec.kind, spec.expr) == (kind, expr)
    spec.compile()
    if isinstance(schedule.get("event"), dict):
        assert spec.options == {"filter": "payload.n > 1"}
    if kind == "condition":
        assert spec.options == {"probe": {"uses": "sql.query"}, "when": "rows[0].n > 0"}


CONDITIONS = [
    ("a.b == 1", "a.b == 1"),
    ("${a.b == 1}", "a.b == 1"),
    (" ${ a } ", " a "),
    (True, "`true`"),
    (False, "`false`"),
]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (
            w.replace("a", "params.a") if isinstance(w, str) else w,
            t.replace("a", "params.a") if isinstance(w, str) else t,
        )
        for w, t in CONDITIONS
    ],
)
def test_conditions_stand_bare_or_in_braces(written: Any, text: str) -> None:
    """`if` takes an expression, with or without ${ }, or a boolean."""
    (only,) = parse_definition(step(**{"if": written})).steps
    assert only.condition is not None
    assert only.condition.text == text


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    (small(name="Bad Name"), "/name", "wrong_form", "lower-case letters"),
    (small(name="-a"), "/name", "wrong_form", "lower-case"),
    (small(priority=0), "/priority", "out_of_range", "at least 1"),
    (small(priorty=1), "/priorty", "unknown_key", "did you mean 'priority'?"),
    (small(kind="Pipelin"), "/kind", "not_allowed", "must be 'Pipeline'"),
    (small(apiVersion="v2"), "/apiVersion", "not_allowed", "duework/v1"),
    (small(labels={"a": 1}), "/labels/a", "wrong_type", "must be string"),
    (small(timeout="10x"), "/timeout", "duration", "not a duration"),
    (small(timeout=0), "/timeout", "out_of_range", "longer than nothing"),
    (small(steps=[]), "/steps", "wrong_length", "at least 1 element"),
    (small(schedule={}), "/schedule", "one_of", "(found none)"),
    (small(schedule={"cron": "* * * * *", "rrule": "FREQ=DAILY"}), "/schedule", "one_of",
    "give exactly one of rrule, cron, every, once, event, condition, manual (found cron, rrule)"),
    (small(schedule={"cron": "* * *"}), "/schedule/cron", "cron", ""),
    (small(schedule={"rrule": "FREQ=DAYLY"}), "/schedule/rrule", "rrule", "DAYLY"),
    (small(schedule={"every": "15m", "timezone": "Mars"}), "/schedule/timezone", "timezone", "Mars"),
    (small(schedule={"manual": False}), "/schedule/manual", "not_allowed", "manual: true"),
    (small(schedule={"every": "15m", "dst": {"gap": "never"}}), "/schedule/dst/gap", "not_allowed", "shift"),
    (small(schedule={"event": {"filter": "x"}}), "/schedule/event", "missing", "'topic'"),
    (small(schedule={"event": {"topic": "a", "filter": "x ="}}), "/schedule/event/filter", "expression_syntax", "=="),
    (small(schedule={"every": "1h", "start": "soon"}), "/schedule/start", "date", "soon"),
    (small(schedule={"condition": {"every": "1s", "probe": {"uses": "a"}, "when": "x >"}}),
    "/schedule/condition/when", "expression_syntax", "too early"),
    (small(schedule={"every": "1h", "catchup": {"policy": "all", "window": "x"}}), "/schedule/catchup/window",
    "duration", ""),
    (small(schedule={"rrule": "FREQ=DAILY;COUNT=1", "exdates": ["1970-01-01"]}), "/schedule/rrule", "never_fires",
    "never"),
    (small(concurrency={"key": "${steps.one}"}), "/concurrency/key", "unknown_root", "'steps'"),
    (small(dedupe={"window": "1h"}), "/dedupe", "missing", "'key'"),
    (small(reflex={"pii": "blok"}), "/reflex/pii", "not_allowed", "did you mean 'block'?"),
    (small(reflex={"allow": ["emial"]}), "/reflex/allow/0", "enum", "email"),
    (small(params_schema={"type": "objct"}), "/params_schema/type", "not_allowed", "object"),
    (small(output="${steps.two}"), "/output", "unknown_step", "'two'"),
    (small(params_schema={"required": ["a"], "properties": {"a": {"type": "integer"}}}, params={"a": "x"}),
    "/params/a", "wrong_type", "integer"),
    (small(schedule={"every": "1h"}, params_schema={"required": ["a"]}), "/params", "missing", "'a'"),
    (small(retry={"backoff": "linaer"}), "/retry/backoff", "not_allowed", "did you mean 'linear'?"),
    (step(uses="a b"), "/steps/0/uses", "wrong_form", "http.get@2"),
    (step(id="1a"), "/steps/0/id", "wrong_form", "begins with a letter"),
    (step(use="x"), "/steps/0/use", "unknown_key", "did you mean 'uses'?"),
    (step(timeout="soon"), "/steps/0/timeout", "duration", "soon"),
    (step(needs=["two"]), "/steps/0/needs/0", "unknown_step", "'two'"),
    (step(needs=["one"]), "/steps/0/needs", "cycle", "'one'"),
    (step(**{"with": {"a": "${param.x}"}}), "/steps/0/with/a", "unknown_root", "did you mean 'params'?"),
    (step(**{"with": {"a": "${steps.two.x}"}}), "/steps/0/with/a", "unknown_step", "'two'"),
    (step(**{"with": {"a": "${item}"}}), "/steps/0/with/a", "unknown_root", "foreach"),
    (step(**{"with": {"a": "${error}"}}), "/steps/0/with/a", "unknown_root", "on_failure"),
    (step(**{"with": {"a": "${@}"}}), "/steps/0/with/a", "unknown_root", "everything"),
    (step(**{"with": {"a": "${secrets}"}}), "/steps/0/with/a", "unknown_root", "secrets.NAME"),
    (step(**{"with": {"a": "${one.x}"}}), "/steps/0/with/a", "unknown_root", "steps.one"),
    (step(**{"if": "status.one == true"}), "/steps/0/if", "unknown_root", "backticks"),
    (step(**{"if": "x ${params.a}"}), "/steps/0/if", "expression_syntax", ""),
    (step(**{"if": "${params.a} > 1"}), "/steps/0/if", "expression_syntax", "${ } in it"),
    (step(foreach="steps.x"), "/steps/0/foreach", "wrong_type", "list or a template"),
    (step(foreach={"a": 1}), "/steps/0/foreach", "wrong_type", ""),
    (step(on_error="ignore"), "/steps/0/on_error", "any_of", "fail, continue, or {value"),
    (step(on_error={"value": "${nope}"}), "/steps/0/on_error/value", "unknown_root", "'nope'"),
    (step(save_as="a b"), "/steps/0/save_as", "wrong_form", "use_result"),
    (step(retry={"on": ["timeuot"]}), "/steps/0/retry/on/0", "not_allowed", "did you mean 'timeout'?"),
    (small(title="a\x00b"), "/title", "not_json", "U+0000"),
    (small(title="\ud800"), "/title", "not_json", "surrogate"),
    (small(params={"a": float("nan")}), "/params/a", "not_json", "finite"),
    (small(params={1: "x"}), "/params", "not_json", "key"),
    (small(params={"a": object()}), "/params/a", "not_json", "JSON"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "pointer", "code", "detail"),
    REFUSED,
    ids=[f"{p}-{c}-{n}" for n, (_, p, c, _) in enumerate(REFUSED)],
)
def test_what_is_wrong_is_named_and_placed(
    document: dict[str, Any], pointer: str, code: str, detail: str
) -> None:
    """One fault, one problem: its pointer, its code, and words that help to mend it."""
    (problem,) = problems_of(document)
    assert (problem.pointer, problem.code) == (pointer, code)
    assert detail in problem.detail
    assert (problem.line, problem.column) == (None, None)


def test_names_of_outputs_are_unique() -> None:
    """Ids and save_as share one namespace, main and failure steps together."""
    steps = [
        {"id": "a", "uses": "x", "save_as": "b"},
        {"id": "b", "uses": "x"},
        {"id": "c", "uses": "x", "save_as": "c"},
    ]
    (problem,) = problems_of(small(steps=steps, on_failure=[{"id": "d", "uses": "x"}]))
    assert (problem.pointer, problem.code) == ("/steps/1/id", "duplicate_step")
    (problem,) = problems_of(small(on_failure=[{"id": "one", "uses": "x"}]))
    assert (problem.pointer, problem.code) == ("/on_failure/0/id", "duplicate_step")


def test_a_status_is_read_by_id() -> None:
    """`save_as` names an output; the status belongs to the step."""
    assert problems_of(step(save_as="out", **{"if": "status.one == 'x' && steps.out"})) == []
    (problem,) = problems_of(step(save_as="out", **{"if": "status.out == 'x'"}))
    assert problem.code == "unknown_step"


def test_circles_of_needs_are_found() -> None:
    """However long, and wherever it hangs."""
    needs = {"a": [], "b": ["a", "d"], "c": ["b"], "d": ["c"], "e": ["d"]}
    (problem,) = problems_of(small(steps=[{"id": k, "uses": "x", "needs": v} for k, v in needs.items()]))
    assert problem.code == "cycle"
    assert all(f"'{name}'" in problem.detail for name in "bcd")
    assert "'a'" not in problem.detail
    assert "'e'" not in problem.detail


def test_where_item_and_error_exist() -> None:
    """`item` and `index` in what a foreach step is given; `error` on failure."""
    loop = step(foreach=["a"], **{"with": {"a": "${item}", "b": "${index}"}}, on_error={"value": "${item}"})
    assert problems_of(loop) == []
    assert problems_of(step(foreach=["${item}"]))[0].code == "unknown_root"
    assert problems_of(step(on_error={"value": "${error.code}"})) == []
    failure = [
        {"id": "f", "uses": "x", "with": {"e": "${error.code}", "s": "${steps.one}", "t": "${status.f}"}}
    ]
    assert problems_of(small(on_failure=failure)) == []


@pytest.mark.parametrize("value", [None, 5, "text", [], [SMALL]])
def test_only_objects_are_definitions(value: Any) -> None:
    """Anything else is told what a definition is."""
    (problem,) = problems_of(Document(value))
    assert problem.code == "wrong_type"


PLACES = [  # what is changed, into what, the problem's code, and the text that begins where it is placed
    ("title:", "titel:", "unknown_key", "titel:"),
    ("Europe/Chisinau", "Europe/Kishinev", "timezone", "Europe/Kishinev"),
    ("  rrule:", "  cron: '* * * * *'\n  rrule:", "one_of", "cron: '*"),
    ("timeout: 10m", "timeout: 10x", "duration", "10x"),
    ("params: {city: Chisinau,", "params: {city: 5,", "wrong_type", "5, chat_id"),
    ('city: "${params.city}"', 'city: "${param.city}"', "unknown_root", "param.city}"),
    ("    uses: http.get", "    use: http.get", "missing", "id: enrich"),
    ("    uses: http.get", "    use: http.get", "unknown_key", "use: http.get"),
    ("if: length(steps", "if: lenght(steps", "expression_syntax", "lenght("),
    ("[enrich, weather]", "[enrich, wether]", "unknown_step", "wether]"),
    ("${params.city}, ${now}", "${params.city}, ${now +}", "expression_syntax", "+}"),
    ("limit: 1", "limit: 0", "out_of_range", "0\n  on_conflict"),
    ("pii: block, injection", "pii: blok, injection", "not_allowed", "blok"),
    ('"${secrets.TG}"', '"${secrets}"', "unknown_root", "secrets}"),
    ("id: brief", "id: weather", "duplicate_step", "weather\n    needs: [enrich"),
    ('"${steps.summary}"', '"${steps.sumary}"', "unknown_step", "steps.sumary"),
    ("exdates: [2026-12-25]", "exdates: [2026-13-25]", "date", "2026-13-25"),
    ("gap: shift", "gap: shft", "not_allowed", "shft"), ("[email]}    #", "[emial]}    #", "enum", "emial"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "code", "begins"), PLACES, ids=[f"{new[:24]}-{code}" for _, new, code, _ in PLACES]
)
def test_lines_and_columns_are_exact(old: str, new: str, code: str, begins: str) -> None:
    """A slip in the text is placed at the very character, past quotes and within templates."""
    text = BRIEFING.replace(old, new, 1)
    assert text.count(begins) == 1
    before = text[: text.index(begins)]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    assert (code, line, column) in {(each.code, each.line, each.column) for each in problems_of(text)}


def test_all_faults_are_reported_at_once() -> None:
    """Several slips of shape, or several of meaning, are mended in one go; the order is the text's."""
    shape = (
        BRIEFING.replace("title:", "titel:")
        .replace("limit: 1", "limit: 0")
        .replace("uses: llm.plan", "use: llm.plan")
    )
    assert [each.code for each in problems_of(shape)] == [
        "unknown_key",
        "out_of_range",
        "missing",
        "unknown_key",
    ]
    meaning = (
        BRIEFING.replace("FREQ=WEEKLY", "FREQ=WEKLY")
        .replace("timeout: 10m", "timeout: 10x")
        .replace("steps.events.items", "steps.evnts.items")
    )
    codes = [each.code for each in problems_of(meaning)]
    assert codes == ["rrule", "duration", "unknown_step", "unknown_step", "unknown_step"]


def test_a_faulty_text_does_not_hide_the_others() -> None:
    """Names in the rest of `with` are still checked."""
    found = problems_of(step(**{"with": {"a": "${", "b": ["${nope}"], "c": {"d/e": "${steps.no}"}}}))
    assert [each.pointer for each in found] == [
        "/steps/0/with/a",
        "/steps/0/with/b/0",
        "/steps/0/with/c/d~1e",
    ]


def test_json_and_yaml_say_the_same() -> None:
    """A definition in JSON is the same definition, and its problems have places too."""
    (document,) = load_documents(json.dumps(briefing().value, indent=1))
    assert parse_definition(document) == parse_definition(briefing())
    (problem,) = problems_of(json.dumps(small(titel="x"), indent=1))
    assert (problem.line, problem.column) == (13, 2)


def test_whole_numbers_are_integers_however_they_are_written() -> None:
    """To JSON Schema 3.0 is an integer; what is stored and what is sliced with must be one too."""
    written = small(
        retry={"max_attempts": 3.0},
        priority=2.0,
        schedule={"every": "1h", "catchup": {"policy": "all", "max": 4.0}},
        params={"ratio": 3.0},
    )
    found = parse_definition(written)
    numbers = (found.retry.max_attempts, found.priority, found.schedule.options["catchup"]["max"])
    assert numbers == (3, 2, 4)
    assert all(isinstance(number, int) for number in numbers)
    assert isinstance(found.document["retry"]["max_attempts"], int)
    assert isinstance(found.params["ratio"], float)
