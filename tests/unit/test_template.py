"""Templates: the seed's examples, what becomes text and what keeps its type."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ValidationFailed
from engine.template import compile_template, escape, render_templates

CONTEXT: dict[str, Any] = {
    "now": "2026-11-21T08:30:00Z",
    "name": "World",
    "n": 15,
    "none": None,
    "yes": True,
    "list": [1, {"a": "ü"}],
    "params": {"city": "Chisinau"},
}


class TestTemplateRendering:
    """The seed's own unit tests, unchanged in substance (seed 003, tests/unit/test_template_rendering.py)."""

    def test_variable_substitution(self) -> None:
        """A name of the context within a text."""
        result = render_templates({"message": "Hello ${name}!"}, {"name": "World"})
        assert result == {"message": "Hello World!"}

    def test_nested_object_access(self) -> None:
        """A path, its number turned to text."""
        context = {"weather": {"temperature": 15, "conditions": "sunny"}}
        assert render_templates({"temp": "${weather.temperature}°C"}, context) == {"temp": "15°C"}

    def test_step_output_access(self) -> None:
        """The output of a step."""
        context = {"steps": {"weather": {"summary": "Partly cloudy"}}}
        result = render_templates({"summary": "${steps.weather.summary}"}, context)
        assert result == {"summary": "Partly cloudy"}


RENDERED = [
    ("${n}", 15), ("${list}", [1, {"a": "ü"}]), ("${none}", None), ("${missing}", None), ("${yes}", True),
    ("${n > 3}", True), (" ${n}", " 15"), ("${n}${n}", "1515"), ("a${none}b", "ab"), ("is ${yes}", "is true"),
    ("l: ${list}", 'l: [1,{"a":"ü"}]'), ("$${n}", "${n}"), ("a $${n} ${n}", "a ${n} 15"), ("$$${n}", "$${n}"),
    ("${'$'}${n}", "$15"), ("$", "$"), ("$$", "$$"), ("{n}", "{n}"), ("$n", "$n"),
    ("${ {a: n, b: '}'} }", {"a": 15, "b": "}"}), ("${'${'}", "${"), ("${`\"}\"`}", "}"), ('${"a}b" || n}', 15),
    ("${'it\\'s }'}", "it's }"), ("${now+24h}", "2026-11-22T08:30:00Z"), ("", ""), (7, 7), (None, None), (True, True),
    ([], []), ({}, {}), (["${n}", {"x": ["${name}"]}], [15, {"x": ["World"]}]), ({"${n}": "${n}"}, {"${n}": 15}),
    (["$${", {"k": "$${}"}], ["${", {"k": "${}"}]), ("${params.city}\n${n}", "Chisinau\n15"), ("${  n  }", 15),
    ("}${n}{", "}15{"),
]  # fmt: skip


@pytest.mark.parametrize(("template", "expected"), RENDERED, ids=[str(template) for template, _ in RENDERED])
def test_rendering(template: Any, expected: Any) -> None:
    """Alone, an expression keeps its type; within a text it becomes text; `$${` is literal."""
    found = render_templates(template, CONTEXT)
    assert found == expected
    assert type(found) is type(expected)


FAULTS = [
    ("${", 1, "closing }"), ("ab ${n", 4, "closing }"), ("${'}", 1, "closing '"), ("${}", 3, "empty"),
    ("x ${n n}", 7, "does not belong"), ("${n} ${n} ${a..b}", 15, "does not belong"),
    ("$${ok} ${f()}", 10, "no function"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "column", "detail"), FAULTS, ids=[text for text, _, _ in FAULTS])
def test_faults_name_the_column_within_the_text(text: str, column: int, detail: str) -> None:
    """A template's problem is placed by pointer, and within its text by column."""
    with pytest.raises(ValidationFailed) as caught:
        compile_template({"a/b": [text]})
    (problem,) = caught.value.errors
    assert (problem.pointer, problem.column) == ("/a~1b/0", column)
    assert detail in problem.detail


def test_all_faults_of_a_template_are_reported() -> None:
    """One for each faulty text."""
    with pytest.raises(ValidationFailed) as caught:
        compile_template({"a": "${", "b": {"c": "${f()}"}, "d": "${n}"})
    assert [problem.pointer for problem in caught.value.errors] == ["/a", "/b/c"]


def test_renderings_share_nothing_that_the_template_wrote() -> None:
    """Changing one run's arguments changes no other run's."""
    template = compile_template({"deep": {"list": [[1]]}, "flat": {"a": 1}, "n": "${n}", "lit": "${`[1]`}"})
    first = template.render(CONTEXT)
    first["deep"]["list"][0].append(2)
    first["flat"]["b"] = 2
    first["lit"].append(2)
    assert template.render(CONTEXT) == {"deep": {"list": [[1]]}, "flat": {"a": 1}, "n": 15, "lit": [1]}
    constant = compile_template({"deep": {"list": [[1]]}})
    constant.render({})["deep"]["list"].append(2)
    assert constant.render({}) == {"deep": {"list": [[1]]}}


def test_what_a_template_says_of_itself() -> None:
    """Constant or not, its references, and where its expressions stand."""
    template = compile_template({"a": ["x", "${params.city} ${now}"], "b": "$${n}"})
    assert not template.constant
    assert template.references == {"params.city", "now"}
    assert [(place, each.text) for place, each in template.expressions] == [
        ("/a/1", "params.city"),
        ("/a/1", "now"),
    ]
    assert compile_template({"b": "$${n}"}).constant
    assert compile_template("${n}") == compile_template("${n}")
    assert compile_template("${n}") != compile_template("${ n }")


def test_deep_templates_and_unprintable_values_are_refused() -> None:
    """Neither nesting nor a value without JSON form brings anything but ValidationFailed."""
    deep: Any = "x"
    for _ in range(100_000):  # beyond what any Python writes as JSON; 3.12 takes several thousand levels
        deep = [deep]
    with pytest.raises(ValidationFailed):
        compile_template(deep)
    with pytest.raises(ValidationFailed):
        render_templates("x ${n}", {"n": deep})
    with pytest.raises(ValidationFailed):
        render_templates("x ${n}", {"n": {"when": object()}})


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@given(st.text(alphabet="${}'\"`a\\ "))
def test_escaping_keeps_any_text(text: str) -> None:
    """The escaped form of a text renders to the text."""
    assert render_templates(escape(text), {}) == text


@given(json_values)
def test_a_whole_value_template_gives_the_value(value: Any) -> None:
    """Any JSON value passes through `${x}` unchanged, and through text as its compact JSON."""
    assert render_templates("${x}", {"x": value}) == value
    if not isinstance(value, str) and value is not None:
        assert json.loads(render_templates(" ${x}", {"x": value})) == value


@given(json_values)
def test_any_value_is_a_template_or_refused(value: Any) -> None:
    """Whatever an author writes compiles and renders, or is a ValidationFailed."""
    try:
        rendered = render_templates(value, CONTEXT)
    except ValidationFailed as error:
        assert error.errors  # noqa: PT017 either outcome is right, and each has its own condition
    else:
        assert "${" in json.dumps(value) or rendered == value
