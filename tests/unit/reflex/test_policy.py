"""The policy's algebra: the strictest layer wins, and bad mappings say where and what was meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ValidationFailed
from engine.reflex import DEFAULT_POLICY, Policy, below_floor, parse_policy, strictest, written

layers = st.fixed_dictionaries(
    {},
    optional={
        "pii": st.sampled_from(["allow", "flag", "redact", "block"]),
        "injection": st.sampled_from(["allow", "flag", "block"]),
        "threshold": st.sampled_from(["low", "medium", "high", "critical"]),
        "allow": st.frozensets(st.sampled_from(["email", "phone", "iban"])),
        "on": st.frozensets(st.sampled_from(["input", "output"])),
    },
)


def test_default() -> None:
    """Without any layer personal data is blocked, and injection from high on, in both directions."""
    assert strictest() == strictest({}, {}) == DEFAULT_POLICY
    assert Policy("block", "block", "high", frozenset(), frozenset({"input", "output"})) == DEFAULT_POLICY


def test_a_steps_allow_works_under_a_task_that_redacts() -> None:
    """A layer without `allow` has no opinion about kinds, so the step's list holds."""
    task = parse_policy({"pii": "redact", "injection": "block", "on": ["input", "output"]})
    step = parse_policy({"pii": "redact", "allow": ["email"]})
    assert strictest(task, step) == Policy(pii="redact", allow=frozenset({"email"}))


@pytest.mark.parametrize(
    ("given_layers", "expected"),
    [
        ([{"pii": "redact"}, {"pii": "flag"}], Policy(pii="redact")),
        ([{"pii": "allow"}, {"pii": "block"}], Policy(pii="block")),
        ([{"threshold": "critical"}, {"threshold": "medium"}], Policy(threshold="medium")),
        ([{"allow": {"email", "iban"}}, {"allow": {"email"}}], Policy(allow=frozenset({"email"}))),
        ([{"allow": {"email"}}, {"allow": set()}], Policy()),
        ([{"on": {"input"}}], Policy(on=frozenset({"input"}))),
        ([{"on": {"input"}}, {"on": {"output"}}], Policy()),
        ([{"injection": "flag"}], Policy(injection="flag")),
    ],
)
def test_strictest_member_by_member(given_layers: list[dict[str, Any]], expected: Policy) -> None:
    """Each member is settled by itself among the layers that give it."""
    frozen = [
        {name: frozenset(value) if isinstance(value, set) else value for name, value in layer.items()}
        for layer in given_layers
    ]
    assert strictest(*frozen) == expected


@given(layers, layers, layers)
def test_order_and_grouping_do_not_matter(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    """`strictest` is commutative and idempotent, and no layer is looser than the result."""
    combined = strictest(one, two, three)
    assert combined == strictest(three, one, two) == strictest(one, one, two, three, three)
    for layer in (one, two, three):
        given_members = set(layer)
        assert not given_members & set(below_floor(combined, strictest(layer)))


@given(layers)
def test_nothing_is_below_itself(layer: dict[str, Any]) -> None:
    """A policy stands on its own floor."""
    assert below_floor(strictest(layer), strictest(layer)) == []


def test_below_floor_names_the_members() -> None:
    """Everything looser than the floor is named, and nothing else."""
    floor = Policy(pii="redact", threshold="high")
    looser = Policy(
        pii="flag", injection="flag", threshold="critical", allow=frozenset({"ssn"}), on=frozenset({"input"})
    )
    assert below_floor(looser, floor) == ["pii", "injection", "threshold", "allow", "on"]
    assert below_floor(Policy(threshold="low"), floor) == []


@pytest.mark.parametrize(
    ("mapping", "pointer", "words"),
    [
        ({"pi": "block"}, "/reflex/pi", 'did you mean "pii"?'),
        ({"pii": "blok"}, "/reflex/pii", 'did you mean "block"?'),
        ({"injection": "redact"}, "/reflex/injection", "allow, flag, block"),
        ({"threshold": 3}, "/reflex/threshold", "low, medium, high, critical"),
        ({"allow": ["email", "emial"]}, "/reflex/allow/1", 'did you mean "email"?'),
        ({"allow": "email"}, "/reflex/allow", "a list"),
        ({"allow": {"/to": ["emial"]}}, "/reflex/allow/~1to/0", 'did you mean "email"?'),
        ({"allow": {"to": ["email"]}}, "/reflex/allow", "JSON pointers like /to"),
        ({"on": ["inputs"]}, "/reflex/on/0", 'did you mean "input"?'),
        ({"on": {"input": True}}, "/reflex/on", "a list"),
        ({"a/b~": 1}, "/reflex/a~1b~0", "no member"),
    ],
)
def test_refusals_say_where_and_what(mapping: dict[str, Any], pointer: str, words: str) -> None:
    """A wrong member is refused at its pointer, with what was probably meant."""
    with pytest.raises(ValidationFailed) as refused:
        parse_policy(mapping, "/reflex")
    (problem,) = refused.value.errors
    assert problem.pointer == pointer
    assert words in problem.detail


def test_all_problems_at_once() -> None:
    """Every problem of a mapping is reported, not only the first; what is no mapping is one problem."""
    with pytest.raises(ValidationFailed) as refused:
        parse_policy({"pii": "no", "on": 1, "x": 2})
    assert len(refused.value.errors) == 3
    with pytest.raises(ValidationFailed):
        parse_policy(["block"])  # type: ignore[arg-type]  # what a document may hold all the same


def test_only_the_given_members_come_back() -> None:
    """Parsing adds no defaults, so that layers stay comparable."""
    assert parse_policy({"pii": "flag", "allow": ["email"]}) == {"pii": "flag", "allow": frozenset({"email"})}
    assert parse_policy({}) == {}


def test_kinds_by_pointer_are_added_at_their_places() -> None:
    """A catalog entry's pointers say nothing about other places; `allow: []` anywhere takes them back."""
    tool = parse_policy({"allow": {"/to": ["email"], "/cc": ["email", "phone"]}})
    at = (("/cc", frozenset({"email", "phone"})), ("/to", frozenset({"email"})))
    assert strictest({"pii": "redact"}, tool) == Policy(pii="redact", at=at)
    assert strictest(tool, parse_policy({"allow": ["iban"]})) == Policy(allow=frozenset({"iban"}), at=at)
    assert strictest(tool, parse_policy({"allow": []})) == Policy()
    other = parse_policy({"allow": {"/cc": ["phone"]}})
    assert strictest(tool, other).at == (("/cc", frozenset({"phone"})),)
    assert strictest(tool).below("/with").at[1] == ("/with/to", frozenset({"email"}))
    assert below_floor(strictest(tool), Policy()) == ["allow"]


def test_a_layer_can_be_written_again() -> None:
    """`written` is the inverse of `parse_policy`, as JSON."""
    for layer in (
        {"pii": "flag", "allow": ["email"], "on": ["input"]},
        {"allow": {"/to": ["email", "phone"]}},
    ):
        assert written(parse_policy(layer)) == layer
