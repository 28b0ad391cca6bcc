"""The pure parts: cursors, query strings, entity tags, names, merge patches, preferences."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams
from starlette.requests import Request

from api import cursors, parameters
from api.definitions import merge, slug
from api.idempotency import key_of
from api.operations import CURSOR, DRY_RUN, INSTANT, LIMIT, Parameter
from api.rendering import entity_tag, expected_version, tag_listed, to_json
from api.waiting import LONGEST, preference
from engine.errors import Malformed

FILTERS: dict[str, Any] = {"status": "active", "limit": 5}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def request(**headers: str) -> Request:
    """A request with these headers and nothing else."""
    raw = [
        (name.replace("_", "-").lower().encode(), text.encode("latin-1")) for name, text in headers.items()
    ]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw, "query_string": b""})


@given(st.datetimes(timezones=st.just(UTC)), st.uuids(), st.integers(0, 2**63 - 1))
def test_a_cursor_leads_back(at: datetime, id_: UUID, number: int) -> None:
    """What was encoded is what is decoded, whatever the page size."""
    text = cursors.encode((at, id_, number), FILTERS)
    assert cursors.decode(text, FILTERS | {"limit": 9, "cursor": text}, datetime, UUID, int) == (
        at,
        id_,
        number,
    )


@given(st.text(max_size=60))
def test_a_cursor_of_somebody_elses_making_is_malformed(text: str) -> None:
    """Any text at all: Malformed, no other exception."""
    with pytest.raises(Malformed):
        cursors.decode(text, FILTERS, datetime, UUID)


def test_a_cursor_belongs_to_its_filters() -> None:
    """Other filters, other kinds of places, and naive instants are refused."""
    text = cursors.encode((uuid4(),), FILTERS)
    for filters, kinds in (
        ({"status": "paused"}, (UUID,)),
        (FILTERS, (datetime,)),
        (FILTERS, (UUID, UUID)),
        (FILTERS, ()),
    ):
        with pytest.raises(Malformed):
            cursors.decode(text, filters, *kinds)
    with pytest.raises(Malformed):
        cursors.decode(cursors.encode((datetime(2026, 1, 1),), FILTERS), FILTERS, datetime)
    assert cursors.decode(None, FILTERS, UUID) is None


def test_query_parameters_are_typed() -> None:
    """Numbers, flags, instants and UUIDs arrive as such; defaults are filled in, the rest is None."""
    known = (
        LIMIT,
        CURSOR,
        DRY_RUN,
        Parameter("at", INSTANT, ""),
        Parameter("id", {"type": "string", "format": "uuid"}, ""),
    )
    contract = parameters.contract_of(known)
    id_ = uuid4()
    found = parameters.parse(
        QueryParams(f"limit=7&dry_run=YES&at=2026-01-01T00:00:00Z&id={id_}"), known, contract
    )
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert found == {"limit": 7, "cursor": None, "dry_run": True, "at": at, "id": id_}
    assert parameters.parse(QueryParams(""), known, contract)["limit"] == 50


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_query_is_read_or_refused(name: str, text: str) -> None:
    """No text makes anything but values or Malformed."""
    known = (LIMIT, DRY_RUN, Parameter("at", INSTANT, ""))
    contract = parameters.contract_of(known)
    for pair in ((name, text), ("at", text), ("limit", text), ("dry_run", text)):
        with suppress(Malformed):
            assert set(parameters.parse(QueryParams([pair]), known, contract)) == {"limit", "dry_run", "at"}


def test_entity_tags_compare_as_they_should() -> None:
    """If-None-Match looks at the whole and If-Match at the version."""
    tag = entity_tag(3, {"a": 1})
    assert tag != entity_tag(3, {"a": 2})
    assert tag_listed(f'W/{tag}, "other"', tag)
    assert tag_listed("*", tag)
    assert not tag_listed(None, tag)
    assert not tag_listed('"3"', tag)
    assert expected_version(tag) == expected_version("3") == expected_version('W/"3.00ff"') == 3
    assert expected_version(None) is expected_version("*") is None
    for wrong in ('"1", "2"', "three", '"-1"', '"3.xyz"', ""):
        with pytest.raises(Malformed):
            expected_version(wrong)


def test_json_is_written_as_the_seeds_read_it() -> None:
    """Instants in UTC end in Z, durations are seconds, and nothing unknown slips through."""
    value = {"at": datetime(2026, 1, 1, tzinfo=UTC), "for": timedelta(seconds=90), "id": UUID(int=1)}
    assert (
        to_json(value)
        == b'{"at":"2026-01-01T00:00:00Z","for":90.0,"id":"00000000-0000-0000-0000-000000000001"}'
    )
    for wrong in (object(), {"x": {1}}, float("nan")):
        with pytest.raises((TypeError, ValueError)):
            to_json(wrong)


@given(st.text(max_size=200))
def test_any_title_makes_a_name(title: str) -> None:
    """A slug that the database accepts, whatever the title."""
    name = slug(title)
    assert 1 <= len(name) <= 80
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name[0] != "-" != name[-1]


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], {"a": None}, {}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_is_the_rfcs(target: Any, patch: Any, result: Any) -> None:
    """The table of the RFC."""
    assert merge(target, patch) == result


@given(JSON, JSON)
def test_merging_leaves_both_alone(target: Any, patch: Any) -> None:
    """Neither argument is changed, and merging twice is merging once."""
    before = (repr(target), repr(patch))
    once = merge(target, patch)
    assert merge(once, patch) == once
    assert (repr(target), repr(patch)) == before


@pytest.mark.parametrize(
    ("header", "wait", "asynchronous"),
    [
        ("wait=30", 30, False),
        ("respond-async, wait=5", 5, True),
        ("Respond-Async", 0, True),
        ('WAIT = "7"', 7, False),
        ("wait=999999", LONGEST, False),
        ("wait=-1, handling=lenient", 0, False),
        ("", 0, False),
    ],
)
def test_preferences_are_read_as_the_rfc_writes_them(header: str, wait: int, asynchronous: bool) -> None:
    """Known ones in any case; unknown ones are ignored; a long wait is cut."""
    found = preference(request(prefer=header))
    assert (found.wait, found.asynchronous) == (wait, asynchronous)


def test_keys_are_visible_and_bounded() -> None:
    """1 to 255 visible ASCII characters, or none at all."""
    assert key_of(request()) is None
    assert key_of(request(idempotency_key="a-1")) == "a-1"
    for wrong in ("", "a b", "x" * 256, "ä"):
        with pytest.raises(Malformed):
            key_of(request(idempotency_key=wrong))
