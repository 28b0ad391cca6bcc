"""From a document to a definition: shape by the published schema, meaning by the rooms that own it.

All problems are gathered before any is raised, so an author mends a file in one go. Seed documents become v1
first; from there on there is one format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.contract import compile_schema
from engine.errors import Problem, ValidationFailed
from engine.expressions.values import copied
from engine.pipeline.definition import Definition, ScheduleSpec
from engine.pipeline.documents import Document
from engine.pipeline.keys import ROOTS, concurrency_key, dedupe_key
from engine.pipeline.mending import mended
from engine.pipeline.reading import Reading, Scope, at_pointer, compile_condition
from engine.pipeline.seed import is_seed, place_in_seed, to_v1
from engine.pipeline.shape import contract, unstorable
from engine.pipeline.steps import read_probe, read_retry, read_steps, scope_of
from engine.reflex import parse_policy

KINDS = ("rrule", "cron", "every", "once", "event", "condition", "manual")
DEFAULT_PRIORITY = 5
_ORDER = (
    "apiVersion", "kind", "name", "title", "description", "labels", "schedule", "concurrency", "priority",
    "timeout", "retry", "pause_after_failures", "budget", "dedupe", "reflex", "params_schema", "params",
    "steps", "on_failure", "output",
)  # fmt: skip
_STEP_ORDER = (
    "id", "title", "description", "uses", "needs", "if", "foreach", "max_parallel", "with", "save_as",
    "timeout", "retry", "on_error", "reflex",
)  # fmt: skip


_INTEGERS = frozenset(
    {"max_attempts", "max", "limit", "priority", "pause_after_failures", "max_tokens", "max_parallel"}
)
_FREE = frozenset({"with", "params", "params_schema", "value", "labels"})


def parse_definition(document: Document | Mapping[str, Any]) -> Definition:
    """The definition that a document in format v1 or the seed format writes.

    Raises ValidationFailed whose `errors` are all its problems: code, detail, pointer into the document as it
    was written and, when it came from text, line and column.
    """
    if not isinstance(document, Document):
        document = Document(document)
    reading = _shaped(document)
    definition = _read(reading)
    if reading.problems:
        raise refusal(reading.problems)
    return definition


def refusal(problems: list[Problem]) -> ValidationFailed:
    """The error that tells all `problems`, each once, in the order of the text."""
    found = sorted(dict.fromkeys(problems), key=lambda each: (each.line or 0, each.column or 0, each.pointer))
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = f"{first.pointer}: " if first.pointer else ""
    return ValidationFailed(f"the definition is not valid: {where}{first.detail}{more}", errors=tuple(found))


def _shaped(document: Document) -> Reading:
    """The document in v1 form, of the right shape. Raises ValidationFailed."""
    reading = Reading(document, document.value if isinstance(document.value, Mapping) else {})
    for problem in unstorable(document.value):
        reading.report(problem.code, problem.detail, problem.pointer)
    _raise_problems(reading)
    if not isinstance(document.value, dict):
        reading.report(
            "wrong_type", "a definition is an object with the keys apiVersion, kind, schedule, steps", ""
        )
        raise refusal(reading.problems)
    if is_seed(document.value):
        _hold_against(reading, "seed-task", document.value)
        _raise_problems(reading)
        reading = Reading(document, to_v1(document.value), place_in_seed)
    shape = _hold_against(reading, "pipeline-v1", reading.v1)
    if reading.problems:
        raise refusal([*reading.problems, *_beyond(reading, shape)])
    return Reading(document, _normalised(reading.v1), reading.place_of)


def _beyond(reading: Reading, shape: list[Problem]) -> list[Problem]:
    """What is wrong with the meaning of a misshapen document, as far as it has one."""
    rest = mended(reading.v1, shape)
    if rest is None:
        return []
    partial = Reading(reading.document, _normalised(rest.v1), reading.place_of, tells=rest.tells)
    _read(partial)
    return partial.problems


def _raise_problems(reading: Reading) -> None:
    if reading.problems:
        raise refusal(reading.problems)


def _hold_against(reading: Reading, schema: str, value: Mapping[str, Any]) -> list[Problem]:
    """Report what the published schema refuses; what it said, pointers in `value`."""
    faults = contract(schema).check(value, show_keys=True)
    for problem in faults:
        detail = problem.detail
        if (
            problem.pointer == "/schedule"
            and problem.code == "one_of"
            and not isinstance(value["schedule"], Mapping)
        ):
            continue  # its type is wrong, and told
        if problem.pointer == "" and detail == "'apiVersion' is missing":
            detail += ": the first line is apiVersion: duework/v1"
        reading.report(problem.code, detail, problem.pointer)
    return faults


def _normalised(v1: Mapping[str, Any]) -> dict[str, Any]:
    """The one form of what `v1` says: known order, no `x-` keys, short forms written out."""
    document = {key: _whole(key, copied(v1[key])) for key in _ORDER if key in v1}
    schedule = document["schedule"]
    if isinstance(schedule.get("event"), str):
        schedule["event"] = {"topic": schedule["event"]}
    for key in ("steps", "on_failure"):
        if key in document:
            document[key] = [_normalised_step(step) for step in document[key]]
    return document


def _whole(key: str, value: Any) -> Any:
    """Integers as integers: to JSON Schema 3.0 is one, to PostgreSQL and to slices it is not."""
    if key in _FREE:
        return value
    if isinstance(value, float) and key in _INTEGERS:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(name, member) for name, member in value.items()}
    return [_whole(key, member) for member in value] if isinstance(value, list) else value


def _normalised_step(step: Mapping[str, Any]) -> dict[str, Any]:
    return {key: step[key] for key in _STEP_ORDER if key in step}


def _read(reading: Reading) -> Definition:
    v1, seed = reading.v1, reading.document.value
    probe = read_probe(reading)
    before = (probe.step,) if probe else ()
    steps = read_steps(reading, "steps", scope_of(*before), _policy)
    scope = scope_of(*before, *steps)
    _check_params(reading)
    return Definition(
        name=v1.get("name"),
        title=v1.get("title"),
        description=v1.get("description"),
        labels=v1.get("labels", {}),
        schedule=_schedule(reading),
        concurrency=_concurrency(reading),
        priority=v1.get("priority", DEFAULT_PRIORITY),
        timeout=reading.duration("/timeout"),
        retry=read_retry(reading, "/retry", v1.get("retry")),
        pause_after_failures=v1.get("pause_after_failures"),
        budget=v1.get("budget", {}),
        reflex=_policy(reading, "/reflex"),
        params_schema=v1.get("params_schema"),
        params=v1.get("params", {}),
        dedupe_key=_key(reading, "dedupe", lambda *run: dedupe_key(reading.v1, *run)),
        dedupe_window=reading.duration("/dedupe/window"),
        steps=steps,
        on_failure=read_steps(reading, "on_failure", scope, _policy),
        output=reading.template("/output", v1["output"], scope) if "output" in v1 else None,
        probe=probe,
        document=v1,
        source_format="seed" if is_seed(seed) else "v1",
        created_by=seed.get("created_by") if is_seed(seed) else None,
        status=seed.get("status") if is_seed(seed) else None,
    )


def _schedule(reading: Reading) -> ScheduleSpec:
    written = reading.v1["schedule"]
    kind = next(kind for kind in KINDS if kind in written)
    said = written[kind]
    options = {
        key: written[key] for key in ("exdates", "rdates", "end", "jitter", "catchup") if key in written
    }
    options |= written.get("dst", {})
    expr = said
    if kind == "event":
        expr, options = said["topic"], options | {key: said[key] for key in ("filter",) if key in said}
    elif kind == "condition":
        expr, options = said["every"], options | {"probe": said["probe"], "when": said["when"]}
    elif kind == "manual":
        expr = ""
    spec = ScheduleSpec(kind, str(expr), written.get("timezone", "UTC"), written.get("start"), options)
    _check_schedule(reading, spec)
    return spec


def _check_schedule(reading: Reading, spec: ScheduleSpec) -> None:
    try:
        spec.compile()
    except ValidationFailed as error:
        for fault in error.errors:
            reading.report(fault.code, fault.detail, spec.place(fault.pointer))
    if "filter" in spec.options:
        reading.attempt("/schedule/event/filter", compile_condition, spec.options["filter"])
    if spec.kind == "condition" and spec.options.get("catchup", {}).get("policy") == "all":
        detail = "a probe sees the present only, so past instants cannot be caught up: use last or none"
        reading.report("not_allowed", detail, "/schedule/catchup/policy")
    reading.duration("/schedule/jitter")
    reading.duration("/schedule/catchup/window")


def _concurrency(reading: Reading) -> dict[str, Any] | None:
    written: dict[str, Any] | None = reading.v1.get("concurrency")
    if written is None:
        return None
    _key(reading, "concurrency", lambda *run: concurrency_key(reading.v1, "", *run))
    if written.get("on_conflict") == "cancel_running" and "condition" in reading.v1["schedule"]:
        detail = "each probe would end the run that an earlier one has led to: use queue, skip or allow"
        reading.report("not_allowed", detail, "/concurrency/on_conflict")
    return {"key": None, "limit": 1, "on_conflict": "queue"} | written


def _key(reading: Reading, member: str, render: Callable[..., object]) -> str | None:
    """The text of a key; what every run of a schedule makes of it is made now, so that its faults show."""
    text: str | None = at_pointer(reading.v1, f"/{member}/key")
    template = None if text is None else reading.template(f"/{member}/key", text, Scope(ROOTS))
    timed = not any(kind in reading.v1["schedule"] for kind in ("event", "manual"))
    if template is not None and not reading.problems and (timed or template.constant):
        reading.attempt("", render, "schedule", None, None)
    return text


def _policy(reading: Reading, pointer: str) -> Mapping[str, Any]:
    """The gate's policy at `pointer`; without one, nothing beyond what the operator asks for."""
    value = at_pointer(reading.v1, pointer)
    return (None if value is None else reading.attempt(pointer, parse_policy, value)) or {}


def _check_params(reading: Reading) -> None:
    """`params` must fit `params_schema`; what is only required may come with a run that is asked for."""
    schema = reading.v1.get("params_schema")
    if not isinstance(schema, Mapping):
        return
    found = reading.attempt("/params_schema", compile_schema, schema)
    on_request = any(kind in reading.v1["schedule"] for kind in ("manual", "event"))
    params = reading.v1.get("params", {})
    for problem in found.check(found.with_defaults(params), show_keys=True) if found else ():
        if not (on_request and problem.code == "missing"):
            reading.report(problem.code, problem.detail, f"/params{problem.pointer}")
