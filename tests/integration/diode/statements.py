"""The ways in that SQL has: for each the statements that bring a text there, as an application executes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from psycopg.types.json import Jsonb

Statement = tuple[bytes, list[Any]]


def run_now(text: str) -> Iterator[Statement]:
    """In parameters, as a value and as a key, and in the name of a task that is not there."""
    asked = b"SELECT duework.run_now(%s, %s)"
    for name in ("sink", "sink-redact"):
        yield asked, [name, Jsonb({"to": text})]
        yield asked, [name, Jsonb({text: {"deep": [text]}})]
    yield asked, [text, Jsonb({})]


def publish(text: str) -> Iterator[Statement]:
    """In the payload and in each name."""
    asked = b"SELECT duework.publish(%s, %s, %s, %s)"
    yield asked, ["canary.sql", Jsonb({"to": text, text: 1}), "shop", None]
    yield asked, ["canary.sql", Jsonb({}), text, "1"]
    yield asked, ["canary.sql", Jsonb({}), "shop", text]
    yield asked, [text, Jsonb({}), "shop", None]


def cancel(text: str) -> Iterator[Statement]:
    """In the reason to cancel a run that is to come."""
    asked = b"SELECT duework.cancel(duework.run_now('sink', NULL, now() + interval '1 day'), %s)"
    yield asked, [text]


WAYS: Mapping[str, Callable[[str], Iterator[Statement]]] = {
    "sql-run-now": run_now,
    "sql-publish": publish,
    "sql-cancel": cancel,
}
"""By the name that the way has in the documentation."""
