"""The seed format: an Ordinaut task, rewritten to format v1 before anything else happens.

Places in the rewritten document are mapped back, so that a problem is reported where the author wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.template import escape

_PLACES = (  # v1 pointer, seed pointer; the first that fits is taken, so the longer ones come first
    ("/schedule/timezone", "/timezone"),
    ("/schedule", "/schedule_expr"),
    ("/concurrency", "/concurrency_key"),
    ("/dedupe/window", "/dedupe_window_seconds"),
    ("/dedupe", "/dedupe_key"),
    ("/retry/backoff", "/backoff_strategy"),
    ("/retry", "/max_retries"),
    ("/params", "/payload/params"),
    ("/steps", "/payload/pipeline"),
)


def is_seed(value: Mapping[str, Any]) -> bool:
    """Whether a document is in the seed format rather than in v1 with its first line forgotten."""
    return "apiVersion" not in value and ("schedule_kind" in value or "payload" in value)


def to_v1(task: Mapping[str, Any]) -> dict[str, Any]:
    """The v1 document that means what the seed document `task` (already of the right shape) means.

    A condition has no counterpart and is refused by the seed's schema here: the seed stored it and never
    evaluated it.
    """
    payload = task["payload"]
    members = {
        "apiVersion": "duework/v1",
        "kind": "Pipeline",
        **{key: task.get(key) for key in ("name", "title", "description", "priority")},
        "schedule": _schedule(task),
        "concurrency": _given(task, "concurrency_key", lambda key: {"key": escape(key), "limit": 1}),
        "dedupe": _given(task, "dedupe_key", lambda key: _dedupe(key, task)),
        "retry": _retry(task),
        "params": payload.get("params"),
        "steps": [_step(step, number) for number, step in enumerate(payload["pipeline"], 1)],
    }
    return {key: value for key, value in members.items() if value is not None}


def place_in_seed(pointer: str) -> str:
    """Where the seed document says what the v1 document says at `pointer`."""
    for ours, theirs in _PLACES:
        if pointer == ours or pointer.startswith(f"{ours}/"):
            rest = pointer[len(ours) :] if ours in ("/params", "/steps") else ""
            return theirs + rest.replace("/timeout", "/timeout_seconds").replace(
                "/retry/max_attempts", "/max_retries"
            )
    return pointer


def _given(task: Mapping[str, Any], key: str, make: Callable[[Any], Any]) -> Any:
    return None if task.get(key) in (None, "") else make(task[key])


def _dedupe(key: str, task: Mapping[str, Any]) -> dict[str, Any]:
    window = task.get("dedupe_window_seconds")  # 0 is what clients send that mean none
    return {"key": escape(key)} | ({"window": f"{window}s"} if window else {})


def _schedule(task: Mapping[str, Any]) -> dict[str, Any]:
    kind, expr = task["schedule_kind"], task.get("schedule_expr") or ""
    said: Any = {"event": {"topic": expr}, "manual": True}.get(kind, expr)
    zone = task.get("timezone")
    return {kind: said} | ({"timezone": zone} if zone else {})


def _retry(task: Mapping[str, Any]) -> dict[str, Any] | None:
    retries, backoff = task.get("max_retries"), task.get("backoff_strategy")
    if retries is None:
        return None if backoff is None else {"backoff": backoff}
    return {"max_attempts": retries + 1} | ({"backoff": backoff} if backoff else {})


def _step(step: Mapping[str, Any], number: int) -> dict[str, Any]:
    retries = step.get("max_retries")
    members = {
        "id": step.get("id") or f"step_{number}",
        "uses": step["uses"],
        "with": step.get("with"),
        "if": step.get("if"),
        "save_as": step.get("save_as"),
        "timeout": step.get("timeout_seconds"),
        "retry": None if retries is None else {"max_attempts": retries + 1},
    }
    return {key: value for key, value in members.items() if value is not None}
