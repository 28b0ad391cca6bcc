"""Definitions to tasks: create, change, apply. Every route that stores a definition ends here.

`admission` has said yes before anything is written; here names are given, owners respected, and each change is
in the audit log, all in the caller's one transaction. Admission works in a thread: a large document takes a while.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from api import timetable
from api.admission import Admitted, admit, admit_all, refusal
from api.bodies import invalid
from api.operations import Call, Resources
from engine import db
from engine.db import Row
from engine.errors import Conflict, NotFound, Problem, ValidationFailed
from engine.pipeline import Definition, Document
from engine.pipeline.seed import place_in_seed
from engine.schedule.preview import over
from engine.store import ledger, tasks
from engine.store.agents import Agent

T = TypeVar("T")
R = TypeVar("R")

SHOWN = 5
"""Instants that an answer lists of a schedule."""
EFFECTS = ("schedule", "next", "instants", "left_out", "clock_changes")
"""What an answer says of a schedule."""
MOST = 10_000
"""Tasks of one set, at most."""


async def create(call: Call, document: Document) -> tuple[Row, Admitted]:
    """A new task, named by its definition or after its title. Raises Conflict when the name is taken."""
    admitted = await _aside(call, admit, document)
    name = admitted.definition.name or await _free_name(call, slug(admitted.definition.title))
    return await _create(call, admitted, name, None), admitted


async def change(call: Call, current: Row, document: Document) -> tuple[Row, Admitted]:
    """A new version of a task that is locked; nothing is written when it says the same. Its name stays."""
    admitted = await _aside(call, admit, document)
    if admitted.definition.name not in (None, current["name"]):
        detail = "the name is the task's identity and cannot be changed; make a new task"
        raise ValidationFailed(detail, errors=[Problem("name_changed", detail, "/name")])
    if current["status"] == "canceled":
        raise Conflict(f"task {current['name']!r} is canceled; apply its definition to bring it back")
    if await _unchanged(call, current, admitted.definition):
        return current, admitted
    return await _change(call, current, admitted, None), admitted


async def apply(call: Call, set_name: str | None, *, prune: bool) -> list[dict[str, Any]]:
    """Bring the tasks named by the documents to what they say: one result each, all or nothing.

    With a set, the tasks belong to it, and `prune` cancels those of the set that no document names.
    """
    if prune and set_name is None:
        raise ValidationFailed("prune needs a set: without one, every task would be a candidate")
    admitted = await _aside(call, admit_all, _separate(call.documents))
    names = _names(admitted)
    now = await db.clock(call.conn)
    results: dict[str, dict[str, Any]] = {}
    refused: dict[str, ValidationFailed] = {}
    for name in sorted(names):  # one lock order for everybody
        try:
            results[name] = await _apply_one(call, names[name], name, set_name, now)
        except ValidationFailed as error:  # nothing fires from the anchor; the other tasks are heard too
            refused[name] = error
    if refused:
        raise refusal([refused.get(name) for name in names])
    removed = await _prune(call, set_name, set(names), now) if set_name and prune else []
    return [results[name] for name in names] + removed


async def _aside(call: Call, admission: Callable[[Resources, T, Agent], R], given: T) -> R:
    resources = call.resources
    running = asyncio.get_running_loop().run_in_executor
    return await running(resources.threads, admission, resources, given, call.agent)


def summary(
    name: str, result: str, row: Row | None, admitted: Admitted | None, now: datetime
) -> dict[str, Any]:
    """What one document led to, with its warnings, the next instants, and what clock changes make of them."""
    answer: dict[str, Any] = {"name": name, "result": result, "warnings": [], "next": [], "schedule": None}
    answer |= {"instants": [], "left_out": [], "clock_changes": []}
    if row is not None:
        answer |= {"id": row["id"], "version": row["version"], "status": row["status"]}
    if admitted is not None:
        answer["warnings"] = warnings(admitted, now if result != "unchanged" else None)
    if row is not None and row["status"] == "active":
        given = upcoming(row, now, SHOWN)
        schedule, options = ledger.schedule_from(row), row["schedule_options"]
        found = timetable.shown(schedule, options, now, SHOWN, key=str(row["id"]), given=given)
        answer |= {name: found[name] for name in EFFECTS}
    return answer


def warnings(admitted: Admitted, now: datetime | None) -> list[dict[str, Any]]:
    """What is legal and often not meant; `now` is when it is stored, if it is."""
    schedule = admitted.definition.schedule
    past = over(schedule.compile(), now - ledger.GRACE) if now else ()
    found = (*admitted.warnings, *(Problem("in_the_past", text, schedule.place("")) for text in past))
    return [warning.as_dict() for warning in found]


def upcoming(row: Row, now: datetime, count: int, planned: Sequence[datetime] = ()) -> list[datetime]:
    """The next instants of a stored task: those `planned` already, then from `next_run` on."""
    return [*planned[:count], *_unplanned(row, now, count - len(planned[:count]))]


def _unplanned(row: Row, now: datetime, count: int) -> list[datetime]:
    schedule = ledger.schedule_from(row)
    first = row["next_run"]
    if first is None or first <= now:
        return schedule.next(now, count)
    return [first, *schedule.next(first, count - 1)] if count else []


def slug(title: str | None) -> str:
    """A name made of a title: `Morning briefing!` → `morning-briefing`."""
    plain = unicodedata.normalize("NFKD", title or "").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:80].strip("-") or "task"


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396: members replace, null removes."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


async def _free_name(call: Call, wanted: str) -> str:
    try:
        await tasks.get(call.conn, wanted)
    except NotFound:
        return wanted
    return f"{wanted}-{secrets.token_hex(3)}"


def _completed(definition: Definition, name: str) -> Definition:
    return definition if definition.title else replace(definition, title=name)


async def _create(call: Call, admitted: Admitted, name: str, set_name: str | None) -> Row:
    now = await db.clock(call.conn)
    definition = _completed(admitted.definition, name)
    try:
        row = await tasks.create(call.conn, definition, name, now, author=admitted.author, set_name=set_name)
    except ValidationFailed as error:
        raise as_written(error, definition) from None
    if definition.status in (
        "paused",
        "canceled",
    ):  # the seed's clients may create a task that does not run yet
        act = tasks.pause if definition.status == "paused" else tasks.cancel
        row = await act(call.conn, row["id"], now)
    await _audit(call, "task.created", row, admitted)
    return row


async def _change(call: Call, current: Row, admitted: Admitted, set_name: str | None) -> Row:
    now = await db.clock(call.conn)
    if current["status"] == "canceled":
        current = await tasks.revive(call.conn, current, now)
    definition = _completed(admitted.definition, current["name"])
    try:
        row = await tasks.change(
            call.conn, current, definition, now, author=admitted.author, set_name=set_name
        )
    except ValidationFailed as error:
        raise as_written(error, definition) from None
    await _audit(call, "task.changed", row, admitted)
    return row


def as_written(error: ValidationFailed, definition: Definition) -> ValidationFailed:
    """The error with its places in the format in which the definition was written."""
    if definition.source_format != "seed":
        return error
    placed = [replace(each, pointer=place_in_seed(each.pointer)) for each in error.errors]
    return ValidationFailed(error.message, errors=placed)


async def _audit(call: Call, action: str, row: Row, admitted: Admitted) -> None:
    details: dict[str, Any] = {"name": row["name"], "version": row["version"], "set": row["set_name"]}
    if admitted.loosened:
        details["loosened"] = list(admitted.loosened)
    await call.audit(action, f"task:{row['id']}", **details)


async def _apply_one(
    call: Call, admitted: Admitted, name: str, set_name: str | None, now: datetime
) -> dict[str, Any]:
    try:
        current = await tasks.get(call.conn, name, lock=True)
    except NotFound:
        row = await _create(call, admitted, name, set_name)
        return summary(name, "created", row, admitted, now)
    owner = current["set_name"]
    if set_name and owner and owner != set_name:
        raise Conflict(f"task {name!r} belongs to the set {owner!r}, not to {set_name!r}")
    adopted = set_name is not None and owner is None
    if (
        not adopted
        and current["status"] != "canceled"
        and await _unchanged(call, current, admitted.definition)
    ):
        return summary(name, "unchanged", current, admitted, now)
    row = await _change(call, current, admitted, set_name)
    return summary(name, "changed", row, admitted, now)


async def _unchanged(call: Call, current: Row, definition: Definition) -> bool:
    stored = await tasks.definition(call.conn, current["id"], current["version"])
    return stored == definition.document


async def _prune(call: Call, set_name: str, kept: set[str], now: datetime) -> list[dict[str, Any]]:
    rows = await tasks.page(call.conn, filters={"set": set_name}, limit=MOST)
    results = []
    for row in sorted(rows, key=lambda each: str(each["name"])):
        if row["name"] in kept or row["status"] == "canceled":
            continue
        gone = await tasks.cancel(call.conn, row["id"], now, f"removed from the set {set_name}")
        await call.audit("task.canceled", f"task:{row['id']}", name=row["name"], set=set_name)
        results.append(summary(row["name"], "removed", gone, None, now))
    return results


def _names(admitted: Sequence[Admitted]) -> dict[str, Admitted]:
    """The documents by the names that identify them, in their order."""
    names: dict[str, Admitted] = {}
    for number, each in enumerate(admitted):
        if not (each.definition.name or each.definition.title):
            raise invalid("apply goes by names", [Problem("missing", "'name' is missing", f"/{number}/name")])
        name = each.definition.name or slug(each.definition.title)
        if name in names:
            problem = Problem("repeated", f"two documents are named {name!r}", f"/{number}/name")
            raise invalid("each task may come once", [problem])
        names[name] = each
    return names


def _separate(documents: Sequence[Document]) -> list[Document]:
    """A JSON list of definitions is as good as several documents."""
    if len(documents) == 1 and isinstance(documents[0].value, list):
        return [Document(value) for value in documents[0].value]
    return list(documents)
