"""Definitions that the tests of this folder share."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from engine.errors import Problem, ValidationFailed
from engine.pipeline import Document, load_documents, parse_definition

BRIEFING = Path(__file__).with_name("briefing.yaml").read_text("utf-8")
"""The format's full example."""

SMALL: dict[str, Any] = {
    "apiVersion": "duework/v1",
    "kind": "Pipeline",
    "schedule": {"manual": True},
    "steps": [{"id": "one", "uses": "core.echo"}],
}
SEED: dict[str, Any] = {
    "title": "Test Task",
    "description": "Integration test task",
    "schedule_kind": "once",
    "schedule_expr": "2026-11-21T10:00:00.123456+00:00",
    "payload": {"pipeline": [{"id": "echo", "uses": "echo.message", "with": {"text": "test"}}]},
    "created_by": "00000000-0000-0000-0000-000000000001",
}
"""The task that the seed's integration test creates (seed 003)."""


@cache
def briefing() -> Document:
    """The full example as a document with places; treat it as read-only."""
    (document,) = load_documents(BRIEFING, "briefing.yaml")
    return document


def problems_of(document: Document | dict[str, Any] | str) -> list[Problem]:
    """What parsing `document` reports; empty when it is accepted."""
    try:
        if isinstance(document, str):
            (document,) = load_documents(document)
        parse_definition(document)
    except ValidationFailed as error:
        return list(error.errors)
    return []


def small(**members: Any) -> dict[str, Any]:
    """The smallest definition with `members` in place of its own."""
    return SMALL | members


def step(**members: Any) -> dict[str, Any]:
    """The smallest definition whose only step has `members` too."""
    return small(steps=[{"id": "one", "uses": "core.echo", **members}])
