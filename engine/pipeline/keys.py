"""The keys that runs are told apart by, rendered before a run exists: what a definition's `dedupe.key` and
`concurrency.key` come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.contract import compile_schema
from engine.errors import Problem, ValidationFailed
from engine.pipeline.definition import Definition
from engine.template import compile_template

LONGEST = 500
"""Characters of a rendered key: it is part of an index."""
TIMED = ("rrule", "cron", "every", "once")
"""Kinds whose runs differ in nothing but their instant, so that their key is the same for a whole version."""
ROOTS = frozenset({"params", "event", "trigger"})
"""What a key may be made of: two runs of which these are alike can be one run, or may not be under way at once."""


def dedupe_key(
    document: Mapping[str, Any],
    trigger: str,
    params: Mapping[str, Any] | None,
    event: Mapping[str, Any] | None,
) -> str:
    """The key of a run of a normalised v1 document that has `dedupe`; `params` None means the definition's own.

    Raises ValidationFailed (problem `dedupe_key`, pointer /dedupe/key) where it comes to nothing, to more than
    LONGEST characters, or to what PostgreSQL cannot store.
    """
    return _rendered(document["dedupe"]["key"], "dedupe", document, trigger, params, event)


def concurrency_key(
    document: Mapping[str, Any],
    name: str,
    trigger: str,
    params: Mapping[str, Any] | None,
    event: Mapping[str, Any] | None,
) -> str | None:
    """The key that a run of task `name` shares a limit under, as it is stored; None where the task has no limit.

    `key:` and the text that `concurrency.key` comes to, so that tasks which write the same share it; without one
    `task:` and the task's name, which nobody can write by accident. Raises ValidationFailed like `dedupe_key`.
    """
    concurrency = document.get("concurrency")
    if concurrency is None or concurrency.get("on_conflict") == "allow":
        return None
    if concurrency.get("key") is None:
        return own_key(name)
    return f"key:{_rendered(concurrency['key'], 'concurrency', document, trigger, params, event)}"


def own_key(name: str) -> str:
    """The concurrency key of a task that names none."""
    return f"task:{name}"


def shared_key(definition: Definition, name: str) -> str | None:
    """The concurrency key of a task's scheduled runs, and of all its runs where nothing about one of them is in it.

    None where the task has no limit, or where each run has to be asked.
    """
    said, kind = (definition.concurrency or {}).get("key"), definition.schedule.kind
    if said is not None and kind in ("event", "manual") and not compile_template(said).constant:
        return None
    trigger = "condition" if kind == "condition" else "schedule"
    return concurrency_key(definition.document, name, trigger, None, None)


def scheduled_key(definition: Definition) -> str | None:
    """The key of the runs that a timed schedule names; None without `dedupe`, and for other kinds."""
    if definition.dedupe_key is None or definition.schedule.kind not in TIMED:
        return None
    return dedupe_key(definition.document, "schedule", None, None)


def _rendered(
    text: str,
    member: str,
    document: Mapping[str, Any],
    trigger: str,
    params: Mapping[str, Any] | None,
    event: Mapping[str, Any] | None,
) -> str:
    """The text of `<member>.key` for one run. Raises ValidationFailed (problem `<member>_key`)."""
    if params is None:
        params = document.get("params", {})
        schema = document.get("params_schema")
        if isinstance(schema, Mapping):
            params = compile_schema(schema).with_defaults(params)
    context = {"params": params, "event": event, "trigger": {"kind": trigger}}
    try:  # a text behind it makes text of a template that is one expression, as every longer text does
        return _checked(compile_template(f"{text} ").render(context)[:-1])
    except ValidationFailed as error:
        detail = f"the {member} key: {error.message}"
        raise ValidationFailed(
            detail, errors=(Problem(f"{member}_key", detail, f"/{member}/key"),)
        ) from error


def _checked(key: str) -> str:
    if not key.strip():
        fault = "it comes to nothing, and with an empty key all runs would be one; use what is never empty"
        raise ValidationFailed(fault)
    if len(key) > LONGEST:
        fault = f"it comes to {len(key)} characters; the most is {LONGEST}: take less into it, or its hash(…)"
        raise ValidationFailed(fault)
    if "\x00" in key or any("\ud800" <= character <= "\udfff" for character in key):
        raise ValidationFailed("it comes to what PostgreSQL cannot store (NUL, or half of a surrogate pair)")
    return key
