"""Secrets of a run: placeholders until the call, who may have which, and every form that is hidden afterwards."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.errors import ValidationFailed
from engine.secrets import Secrets, Veil, forms
from engine.template import render_templates

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


ENCODERS: dict[str, Callable[[str], str]] = {
    "plain": lambda value: value,
    "percent": lambda value: quote(value, safe=""),
    "percent in small letters": lambda value: re.sub(
        "%..", lambda code: code[0].lower(), quote(value, safe="")
    ),
    "path": quote,
    "form": quote_plus,
    "form of a dictionary": lambda value: urlencode({"key": value}),
    "percent twice": lambda value: quote(quote(value, safe=""), safe=""),
    "JSON": json.dumps,
    "JSON in JSON": lambda value: json.dumps(json.dumps({"a": value})),
    "JSON of PHP": lambda value: json.dumps(value).replace("/", "\\/"),
    "JSON in Unicode": lambda value: json.dumps(value, ensure_ascii=False),
    "HTML": html.escape,
    "Python": repr,
    "hexadecimal": lambda value: value.encode().hex(),
    "HEXADECIMAL": lambda value: value.encode().hex().upper(),
    "hexadecimal of JSON": lambda value: json.dumps([value]).encode().hex(),
    "Base64 of JSON": lambda value: base64.b64encode(json.dumps({"a": value}).encode()).decode(),
    "Base64": lambda value: base64.b64encode(value.encode()).decode(),
    "Base64 for URLs": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "Base64 in a query": lambda value: quote(base64.b64encode(value.encode()).decode(), safe=""),
}
# Not among them: what a mark itself holds, or what a mark and its neighbourhood could make anew.
hidden = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="[]SECRT:\0\ue000\ue001"),
    min_size=4,
    max_size=40,
)
around = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


@settings(max_examples=25)
@pytest.mark.parametrize("encoder", ENCODERS)
@given(secret=hidden, before=around, after=around)
def test_no_form_of_any_secret_stays(encoder: str, secret: str, before: str, after: str) -> None:
    """Whatever the secret and whatever stands around it, no form of it is in what `conceal` answers."""
    assume(len(secret.strip()) >= 4)
    vault = Secrets({"S": secret}.get)
    vault.reveal(vault["S"])
    leak = ENCODERS[encoder](secret)
    for value in (
        leak,
        before + leak + after,
        {leak: [before + leak]},
        ENCODERS[encoder](before + secret + after),
    ):
        shown = json.dumps(concealed := vault.conceal(value), ensure_ascii=False)
        assert "[SECRET:S]" in shown
        texts = [*concealed, *next(iter(concealed.values()))] if isinstance(concealed, dict) else [concealed]
        assert not [form for form in forms(secret) for text in texts if form in text]


@given(hidden, st.binary(max_size=8), st.binary(max_size=8))
def test_any_secret_is_found_in_base64(secret: str, before: bytes, after: bytes) -> None:
    """Whatever bytes stand around it, none of the secret's own Base64 characters stays."""
    vault = Secrets({"S": secret}.get)
    vault.reveal(vault["S"])
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    assert "[SECRET:S]" in vault.conceal(encoded)


def test_a_secret_of_several_lines_is_hidden_line_by_line() -> None:
    """A log that shows one line of a private key shows no part of it."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n"
    veil = Veil({key: "KEY"})
    assert veil("at line 2: 'MIIEvQIBADANBgkq'") == "at line 2: '[SECRET:KEY]'"
    assert veil(key.strip()) == "[SECRET:KEY]"


def test_a_number_that_is_a_secret_is_hidden() -> None:
    """A PIN that comes back as a JSON number is a PIN."""
    vault = Secrets({"PIN": "902107"}.get)
    vault.reveal(vault["PIN"])
    assert vault.conceal({"pin": 902107, "x": [90210.7, True, 1]}) == {
        "pin": "[SECRET:PIN]",
        "x": [90210.7, True, 1],
    }


def test_concealing_twice_changes_nothing() -> None:
    """A mark stays whole, also where a secret is a word of it."""
    vault = Secrets({"TOKEN": "SECRET", "OTHER": "TOKEN"}.get)
    vault.reveal([vault["TOKEN"], vault["OTHER"]])
    once = vault.conceal("a SECRET and a TOKEN")
    assert once == "a [SECRET:TOKEN] and a [SECRET:OTHER]"
    assert vault.conceal(once) == once


def test_of_two_secrets_the_longer_goes_first() -> None:
    """A secret that begins like another one is hidden whole."""
    veil = Veil({"abcdef": "SHORTER", "abcdef-123456": "LONGER"})
    assert veil("abcdef-123456 abcdef") == "[SECRET:LONGER] [SECRET:SHORTER]"


def test_a_rotated_secret_is_used_by_the_next_call_and_both_are_hidden() -> None:
    """Every call asks anew; what an earlier one was given stays hidden."""
    store = {"T": "first-value"}
    vault = Secrets(store.get)
    placeholder = vault["T"]
    assert vault.reveal(placeholder) == "first-value"
    store["T"] = "second-value"
    assert vault.reveal(placeholder) == "second-value"
    assert vault.conceal("first-value second-value") == "[SECRET:T] [SECRET:T]"


def test_a_resumed_run_hides_what_it_has_not_asked_for_yet() -> None:
    """The secrets that the pipeline names are hidden, whichever attempt was given them."""
    vault = Secrets({"T": "a-long-secret"}.get, named=["T", "MISSING"])
    assert vault.conceal({"said": "a-long-secret"}) == {"said": "[SECRET:T]"}


def test_a_tool_is_given_its_own_secrets_only() -> None:
    """A name outside the tool's list is refused before anything is read."""
    vault = Secrets({"A": "value-a", "B": "value-b"}.get)
    arguments = {"a": vault["A"], "b": vault["B"]}
    assert vault.reveal(arguments["a"], ["A"]) == "value-a"
    with pytest.raises(ValidationFailed, match="secret B is not among the secrets of this tool") as caught:
        vault.reveal(arguments, ["A"])
    assert caught.value.errors[0].code == "secret_not_allowed"


@pytest.mark.parametrize("value", ["", "a\0b", "bad \udcff bytes"])
def test_what_is_no_text_is_no_secret(value: str) -> None:
    """An empty or binary secret is refused by its name, not handed to a tool."""
    vault = Secrets({"T": value}.get)
    with pytest.raises(ValidationFailed, match="secret T is not"):
        vault.reveal(vault["T"])


@pytest.mark.parametrize("end", ["hush", "hush-hush-0f9", "aHVzaC1odXNo", "687573682d68"])
def test_the_beginning_of_a_secret_at_the_end_of_a_cut_text_is_hidden(end: str) -> None:
    """A process that is killed while it writes leaves half of a secret; a whole text keeps its end."""
    vault = Secrets({"KEY": "hush-hush-0f9a"}.get)
    vault.reveal(vault["KEY"])
    assert vault.conceal(f"it is hush or {end}", cut=True) == "it is hush or [SECRET:KEY]"
    assert vault.conceal(f"it is {end}") == f"it is {end}"
    assert vault.conceal("it is hus", cut=True) == "it is hus"
