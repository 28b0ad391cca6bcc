"""Templates and secrets: the seed's examples, what becomes text and what keeps its type, and what never leaks."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ValidationFailed
from engine.template import Secrets, compile_template, escape, render_templates

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


VAULT = {
    "TG": 'tök"en/+:12345',
    "OTHER": "other-secret",
    "SHORT": "abc",
    "PIN": "90210",
    "my-key.1": "dashed-secret",
}


@pytest.fixture
def secrets() -> Secrets:
    """The secrets of one run."""
    return Secrets(VAULT.get)


def test_secrets_are_placeholders_until_revealed(secrets: Secrets) -> None:
    """Templates see an opaque token; reveal puts the secret in, whole and within texts."""
    rendered = render_templates(
        {"a": "${secrets.TG}", "b": ["Bearer ${secrets.OTHER}!"]}, {"secrets": secrets}
    )
    assert "en/+" not in json.dumps(rendered)
    assert secrets.is_placeholder(rendered["a"])
    assert not secrets.is_placeholder(rendered["b"][0])
    assert secrets.reveal(rendered) == {"a": VAULT["TG"], "b": [f"Bearer {VAULT['OTHER']}!"]}
    assert rendered["a"] == secrets["TG"]


def test_names_with_dashes_and_dots(secrets: Secrets) -> None:
    """File names of mounted secrets work when quoted."""
    rendered = render_templates('${secrets."my-key.1"}', {"secrets": secrets})
    assert secrets.reveal(rendered) == "dashed-secret"


def test_an_unknown_secret_is_named(secrets: Secrets) -> None:
    """A name that resolves to nothing fails before the call."""
    rendered = render_templates("${secrets.NOPE}", {"secrets": secrets})
    with pytest.raises(ValidationFailed, match="secret NOPE is not set") as caught:
        secrets.reveal(rendered)
    assert caught.value.errors[0].code == "unknown_secret"


def test_imitations_are_just_text(secrets: Secrets) -> None:
    """Without this run's nonce, or for a name the run never asked for, nothing is revealed."""
    other = Secrets(VAULT.get)["TG"]
    mine = secrets["OTHER"]
    forged = mine.replace("OTHER", "TG")
    for imitation in (other, forged, "\ue0000000000000000000:TG\ue001", mine[:-1]):
        assert not secrets.is_placeholder(imitation)
        assert secrets.reveal(f"x {imitation}") == f"x {imitation}"


TAKEN_APART = [
    "upper(secrets.TG)", "lower(secrets.TG)", "split(secrets.TG, ':')", "replace(secrets.TG, ':', '')",
    "b64(secrets.TG)", "hash(secrets.TG)", "hash([secrets.TG])", "uuid5('dns', secrets.TG)", "reverse(secrets.TG)",
    "from_json(to_string([secrets.TG]))", "map(&b64(@), [secrets.TG])", "split(join('', ['x', secrets.TG]), ':')",
    "to_string(secrets)",
]  # fmt: skip


@pytest.mark.parametrize("text", TAKEN_APART)
def test_functions_cannot_take_a_placeholder_apart(text: str, secrets: Secrets) -> None:
    """A tool that got a part of it could imitate the placeholders of other secrets."""
    with pytest.raises(ValidationFailed):
        render_templates(f"${{{text}}}", {"secrets": secrets})


def test_the_names_of_secrets_cannot_be_listed(secrets: Secrets) -> None:
    """Neither keys nor values of `secrets` say what there is."""
    context = {"secrets": secrets}
    assert render_templates("${[keys(secrets), values(secrets), length(secrets)]}", context) == [[], [], 0]
    assert render_templates("${secrets.*}", context) == []


FORMS = [
    lambda value: value, lambda value: f"before {value} after", lambda value: quote(value, safe=""),
    lambda value: f"https://u:{quote(value)}@h/", lambda value: json.dumps(value),
    lambda value: json.dumps({"a": value}, ensure_ascii=False),
    lambda value: base64.b64encode(value.encode()).decode(),
    lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    lambda value: "Basic " + base64.b64encode(f"user:{value}".encode()).decode(),
    lambda value: base64.b64encode(f"us:{value}!".encode()).decode(),
    lambda value: base64.b64encode(f"u:{value}!!".encode()).decode(),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_secrets_are_concealed_in_every_form(form: Any, secrets: Secrets) -> None:
    """Whole, within texts, encoded, in keys and in nested values."""
    secrets.reveal([secrets["TG"], secrets["PIN"]])
    for name in ("TG", "PIN"):
        leak = form(VAULT[name])
        hidden = secrets.conceal({"deep": [leak], leak: 1})
        text = json.dumps(hidden, ensure_ascii=False)
        assert leak not in text
        assert f"[SECRET:{name}]" in hidden["deep"][0]
        assert f"[SECRET:{name}]" in next(key for key in hidden if key != "deep")


def test_placeholders_are_concealed_too(secrets: Secrets) -> None:
    """A rendered input is stored with marks, whether or not it was revealed."""
    rendered = render_templates("token ${secrets.TG}", {"secrets": secrets})
    assert secrets.conceal({"a": rendered}) == {"a": "token [SECRET:TG]"}


def test_short_secrets_are_concealed_where_they_stand_alone(secrets: Secrets) -> None:
    """Three characters inside another text are noise; as a whole text they are the secret."""
    secrets.reveal(secrets["SHORT"])
    assert secrets.conceal(["abc", "abcdef"]) == ["[SECRET:SHORT]", "abcdef"]


def test_without_secrets_nothing_is_walked(secrets: Secrets) -> None:
    """A run that asks for none gets its own values back."""
    value = {"a": ["x"]}
    assert secrets.conceal(value) is value
    assert secrets.reveal(value) is value


@given(st.text(min_size=4, max_size=40), st.binary(max_size=8), st.binary(max_size=8))
def test_any_secret_is_found_in_base64(secret: str, before: bytes, after: bytes) -> None:
    """Whatever stands around it, none of the secret's own Base64 characters stays."""
    if "\ud800" <= max(secret) <= "\udfff" or not secret.isprintable():
        return
    vault = Secrets({"S": secret}.get)
    vault.reveal(vault["S"])
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    assert "[SECRET:S]" in vault.conceal(encoded)
