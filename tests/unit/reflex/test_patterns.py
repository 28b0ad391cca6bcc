"""Every pattern against its own examples: the tests are generated from the pattern data."""

from __future__ import annotations

from typing import Any

import pytest
import re2

from engine.reflex import scan
from engine.reflex.catalogue import Pattern, injection_families, patterns, pii_kinds
from engine.reflex.checks import CHECKS
from engine.reflex.evasion import UNDO
from engine.reflex.findings import SEVERITIES

POSITIVE = [
    pytest.param(row, text, id=f"{row.name}-{index}")
    for row in patterns()
    for index, text in enumerate(row.match)
]
NEGATIVE = [
    pytest.param(row, text, id=f"{row.name}-{index}")
    for row in patterns()
    for index, text in enumerate(row.no_match)
]


def found(text: str, row: Pattern) -> list[dict[str, Any]]:
    """The findings of the row's kind or family; of evasion, the stretches that its sign is noticed in."""
    if row.category == "evasion":
        return [
            {"start": start, "end": end}
            for start, end in (hit.span() for hit in re2.finditer(row.regex, text))
        ]
    name = "type" if row.category == "pii" else "family"
    return [finding for finding in scan(text)[row.category] if finding[name] == row.kind]


def expected(marked: str) -> tuple[str, int, int]:
    """The text without its « » and the span that they enclose."""
    start = marked.index("«")
    end = marked.rindex("»") - 1
    return marked.replace("«", "", 1)[:end] + marked[end + 2 :], start, end


@pytest.mark.parametrize(("row", "marked"), POSITIVE)
def test_found_where_marked(row: Pattern, marked: str) -> None:
    """The kind is found last, at exactly the marked place, by this or a surer pattern of its kind."""
    text, start, end = expected(marked)
    spans = [(finding["start"], finding["end"]) for finding in found(text, row)]
    if row.category != "injection":
        assert spans[-1:] == [(start, end)]
    else:
        assert any(at <= start + 1 and start < until for at, until in spans), spans


@pytest.mark.parametrize(("row", "text"), NEGATIVE)
def test_not_found(row: Pattern, text: str) -> None:
    """Look-alikes of the kind are not it."""
    assert found(text, row) == []


def test_names_are_unique() -> None:
    """A rule named in a verdict is one row of the data."""
    names = [row.name for row in patterns()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in patterns()])
def test_rows_are_complete(row: Pattern) -> None:
    """Each row says where it comes from, how sure or severe it is, and names a check that exists."""
    assert row.source
    assert row.match
    assert not row.check or row.check in CHECKS
    if row.category == "evasion":
        assert row.kind in UNDO
        return
    assert row.name.startswith(f"{row.kind}.")
    assert 0 < row.confidence <= 1 if row.category == "pii" else row.severity in SEVERITIES


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in patterns()])
def test_separator_is_never_matched(row: Pattern) -> None:
    """No pattern crosses the sign that stands between two values of a structure."""
    regex = re2.compile(row.regex)
    for marked in row.match:
        text, start, end = expected(marked)
        middle = (start + end) // 2
        hit = regex.search(text[:middle] + "\0\n" + text[middle:])
        assert hit is None or "\0\n" not in hit.group()


def test_kinds_and_families_of_the_design() -> None:
    """The kinds and families that the documentation promises are covered by at least one pattern."""
    assert pii_kinds() >= {
        "email", "phone", "ssn", "itin", "credit_card", "iban", "bank_account", "routing_number", "ipv4", "ipv6",
        "mac_address", "passport", "drivers_license", "medical_record_number", "date_of_birth", "api_key",
        "bitcoin_address", "ethereum_address", "street_address", "vin",
    }  # fmt: skip
    assert injection_families() >= {
        "ignore_previous", "role_manipulation", "prompt_extraction", "dan_variant", "new_instructions", "tool_abuse",
        "roleplay_jailbreak", "delimiter_injection", "nested_prompt", "encoded_instruction", "command_injection",
        "template_injection", "data_exfiltration", "memory_access",
    }  # fmt: skip
