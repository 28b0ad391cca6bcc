"""Marks of false positives: what they pardon, and which patterns are too wide to be one."""

from __future__ import annotations

from uuid import UUID

import pytest

from engine import reflex
from engine.reflex import allowing
from engine.reflex.allowing import Allowance, Allowed, pattern_fault, value_digest, value_fault, witnesses
from engine.reflex.catalogue import patterns
from engine.reflex.digests import Match
from engine.reflex.edition import edition
from engine.reflex.findings import UNKNOWN

KEY = b"k" * 32
TASK = UUID(int=7)


def found(value: str, kind: str = "email", category: str = "pii") -> Match:
    """What `judge` asks about."""
    return Match(category, kind, "rule.x", "/to", value)


def exact(value: str, **members: object) -> Allowed:
    """A list with one mark for a value."""
    given = {"kind": None, "digest": value_digest(KEY, value), "pattern": None} | members
    return Allowed([Allowance(**given)], KEY)  # type: ignore[arg-type]  # each test gives what fits


def test_a_value_is_pardoned_exactly() -> None:
    """The very value and no other, and only with the key that made the digest."""
    allowed = exact("ada@example.org")
    assert allowed.pardons(found("ada@example.org"), None, 0.0)
    assert not allowed.pardons(found("Ada@example.org"), None, 0.0)
    assert not allowed.pardons(found("bob@example.org"), None, 0.0)
    mark = Allowance(None, value_digest(KEY, "ada@example.org"), None)
    assert not Allowed([mark], b"another key").pardons(found("ada@example.org"), None, 0.0)


def test_a_pattern_is_for_the_whole_value() -> None:
    """It matches all of what is found, not a part, and across no line."""
    allowed = Allowed([Allowance(None, None, "build-[0-9]+|x.y")], KEY)
    assert allowed.pardons(found("build-12"), None, 0.0)
    for value in ("a build-12", "build-12 b", "build-12\n", "x\ny"):
        assert not allowed.pardons(found(value), None, 0.0)


def test_every_member_must_agree() -> None:
    """Another kind, another task or a mark that has ended pardons nothing; nor does an unknown kind."""
    value = "ada@example.org"
    assert not exact(value, kind="phone").pardons(found(value), None, 0.0)
    assert exact(value, kind="email").pardons(found(value), None, 0.0)
    of_task = exact(value, tasks=(TASK, "mail"))
    assert [of_task.pardons(found(value), task, 0.0) for task in (TASK, "mail", "other", None)] == [
        True,
        True,
        False,
        False,
    ]
    ending = exact(value, until=10.0)
    assert [ending.pardons(found(value), None, now) for now in (9.9, 10.0, 11.0)] == [True, False, False]
    assert not exact(value).pardons(found(value, category=UNKNOWN), None, 0.0)


def test_an_empty_list_pardons_nothing() -> None:
    """Fail closed."""
    assert not Allowed().pardons(found("ada@example.org"), None, 0.0)


def test_judging_by_a_list() -> None:
    """One of two values passes, as it is; the other is found in the same text."""
    allowed = exact("ada@example.org")
    value = {"to": "ada@example.org, bob@example.org"}
    verdict = reflex.judge(
        value, reflex.DEFAULT_POLICY, pardoned=lambda match: allowed.pardons(match, None, 0.0)
    )
    assert [(each.start, each.end) for each in verdict.findings] == [(17, 32)]


WIDE = [
    (".*", None), ("(?s).*", "email"), (r"\S+", None), (".+@.+", "email"), (r"[^ ]{3,}", "email"),
    (r".*@.*\.com", "email"), (r"\d{3}-\d{2}-\d{4}", "ssn"), (r"[\d-]+", None), (r"4\d{15}", "credit_card"),
    (r"\+1.*", "phone"), ("DE.*", "iban"), (r"DE[0-9A-Z]{20}", None), ("AKIA.*", "api_key"), ("x?", None),
    (r"(?i).*instructions.*", None), (r"\d+\.\d+\.\d+\.\d+", "ipv4"), ("|a", None), (r"[a-z.]+@[a-z.-]+", None),
]  # fmt: skip
NARROW = [
    (r"build-[0-9]{10}", None), (r".*@docs\.example\.com", "email"), (r"192\.0\.2\.\d{1,3}", "ipv4"),
    (r"1700\d{6}", "phone"), (r"7\d\d-\d\d-\d{4}", "ssn"), (r"ignore the previous revision", None),
    (r"4242 ?4242 ?4242 ?4242", "credit_card"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "kind"), WIDE)
def test_wide_patterns_are_refused(pattern: str, kind: str | None) -> None:
    """What matches nothing at all, or values that nobody has looked at."""
    assert pattern_fault(pattern, kind)


@pytest.mark.parametrize(("pattern", "kind"), NARROW)
def test_narrow_patterns_are_taken(pattern: str, kind: str | None) -> None:
    """What is told apart by its own text."""
    assert pattern_fault(pattern, kind) == ""


def test_a_pattern_is_as_small_as_what_it_is_compared_with_needs() -> None:
    """Texts are compared as they are, where a class of letters has hundreds of ranges."""
    assert "too large" in pattern_fault(r"ci-\pL{40}", "email")
    assert pattern_fault(r"ci-\pL{900}", None).startswith("not RE2")
    assert "too large" in pattern_fault(r"ci-[a-z]{999}[0-9]{999}[a-z]{999}", None)
    assert pattern_fault(r"ci-[a-z]{9}\pL", None) == ""


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1", "a" * 501, "Ж+", r"ada\@example\.org"])
def test_unusable_patterns_are_refused(pattern: str) -> None:
    """No RE2, too long, or personal data itself: that would be stored as it is."""
    assert pattern_fault(pattern, None)


def test_every_kind_has_witnesses() -> None:
    """A pattern that matches everything is wide for each kind and family by itself."""
    known = {row.kind for row in patterns() if row.category != "evasion"}
    assert set(witnesses(edition())) == known
    assert all(witnesses(edition())[kind] for kind in known)
    assert all("too wide" in pattern_fault(r"(?s).+", kind) for kind in known)


def test_a_value_is_the_whole_of_what_is_found() -> None:
    """A text around it would never count; what needs words beside it, or is not found here, may be marked."""
    assert value_fault("ada@example.org") == ""
    assert value_fault("40077120338") == ""
    assert "email at characters 9 to 24" in value_fault("write to ada@example.org")
    assert value_fault("")
    assert value_fault("x" * 20_481)


def test_a_value_is_compared_with_many_patterns_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass for each TOGETHER of them, not one for each; the list may be long, and a text may hold many values."""
    alone: list[str] = []
    monkeypatch.setattr(allowing, "_matches", lambda pattern, _: alone.append(pattern))
    marks = [
        Allowance("email" if number % 2 else "phone", None, rf"u{number}@corp\.example")
        for number in range(200)
    ]
    allowed = Allowed(marks)
    told = [allowed.pardons(found(f"u{number}@corp.example"), None, 0.0) for number in range(201)]
    assert told == [number % 2 == 1 and number < 200 for number in range(201)]
    assert alone == []


@pytest.mark.parametrize("memory", [5_000, 20_000, 40_000, 80_000])
def test_patterns_count_where_a_set_has_no_memory(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    """Then each is compared by itself: what a mark lets pass does not depend on what else is marked."""
    monkeypatch.setattr(allowing, "SET_MEMORY", memory)
    allowing._sets.cache_clear()
    patterns = [rf"(?i)[a-z0-9.]*{number}[a-z0-9.]{{0,40}}x[a-z.]*@corp\.example" for number in range(50, 56)]
    allowed = Allowed([Allowance(None, None, pattern) for pattern in (*patterns, r"\pL{900}")])
    assert allowed.pardons(found("q55zzzzx@corp.example"), None, 0.0)
    assert not allowed.pardons(found("q56zzzzx@corp.example"), None, 0.0)
