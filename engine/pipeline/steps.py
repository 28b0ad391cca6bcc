"""Steps: from the v1 form to `Step`s, and what must hold between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.contract.wording import closest
from engine.expressions import Expression, compile_expression
from engine.pipeline.definition import PROBE, Probe, Step
from engine.pipeline.reading import ROOTS, Reading, Scope, at_pointer, compile_condition, quoted
from engine.retry import RetryPolicy
from engine.template import Template, compile_template

ReadRetry = Callable[[Reading, str], RetryPolicy]
ReadPolicy = Callable[[Reading, str], Mapping[str, Any]]

NOTHING = Scope(frozenset(ROOTS) - {"item", "index", "error"})
"""What may be named before any step is known."""
EDGE = Scope(frozenset({"params", "now", "trigger", "event", "run", "secrets"}))
"""What is known of a run before its first step."""
_RETRIES = 3  # attempts when `retry` is there and does not say


def read_steps(reading: Reading, key: str, before: Scope, read_policy: ReadPolicy) -> tuple[Step, ...]:
    """The steps of `steps` or `on_failure`; `before` is what they may name besides each other."""
    written: list[Mapping[str, Any]] = list(reading.v1.get(key, ()))
    names = frozenset(before.steps | {name for step in written for name in _names(step)})
    scope = Scope(before.roots, names, before.ids | {step["id"] for step in written})
    if key == "on_failure":
        scope = scope.within("error")
    _check_names(reading, key, written, before.steps)
    _check_needs(reading, key, written)
    return tuple(
        _read_step(reading, f"/{key}/{position}", step, scope, read_policy)
        for position, step in enumerate(written)
    )


def read_retry(reading: Reading, pointer: str, value: Mapping[str, Any] | None) -> RetryPolicy:
    """The policy at `pointer`; without one, a single attempt."""
    if value is None:
        return RetryPolicy()
    delay = reading.duration(f"{pointer}/delay") if "delay" in value else None
    longest = reading.duration(f"{pointer}/max_delay") if "max_delay" in value else None
    given: dict[str, Any] = {"backoff": value.get("backoff"), "delay": delay, "max_delay": longest}
    return RetryPolicy(
        max_attempts=value.get("max_attempts", _RETRIES),
        on=frozenset(value.get("on", ())),
        **{name: found for name, found in given.items() if found is not None},
    )


def read_probe(reading: Reading) -> Probe | None:
    """The probe of a condition schedule; None for other kinds. What is at fault in it is reported."""
    written = at_pointer(reading.v1, "/schedule/condition")
    if written is None:
        return None
    pointer, probe = "/schedule/condition/probe", written["probe"]
    step = Step(
        id=PROBE,
        uses=probe["uses"],
        arguments=reading.template(f"{pointer}/with", probe.get("with", {}), EDGE) or compile_template({}),
        timeout=reading.duration(f"{pointer}/timeout"),
        retry=_own_retry(reading, pointer, probe),
    )
    when = reading.attempt("/schedule/condition/when", compile_condition, written["when"])
    return Probe(step, when or compile_expression("`false`"))


def scope_of(*steps: Step) -> Scope:
    """What may be named after `steps`."""
    names = frozenset(name for step in steps for name in step.names)
    return Scope(NOTHING.roots, names, frozenset(step.id for step in steps))


def _names(step: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(step[key] for key in ("id", "save_as") if key in step))


def _check_names(reading: Reading, key: str, written: list[Mapping[str, Any]], known: frozenset[str]) -> None:
    """Ids and `save_as` share one namespace: `steps.x` means one output."""
    taken: dict[str, int] = dict.fromkeys(known, -1)
    for position, step in enumerate(written):
        for name in _names(step):
            if taken.setdefault(name, position) != position:
                member = "id" if step["id"] == name else "save_as"
                owner = "the schedule's probe" if name == PROBE and name in known else "another step"
                detail = f"'{name}' already names the output of {owner}: choose another {member}"
                reading.report("duplicate_step", detail, f"/{key}/{position}/{member}")


def _check_needs(reading: Reading, key: str, written: list[Mapping[str, Any]]) -> None:
    ids = [step["id"] for step in written]
    for position, step in enumerate(written):
        for place, name in enumerate(step.get("needs", ())):
            if name not in ids:
                detail = f"there is no step '{name}'{closest(name, ids)}"
                reading.report("unknown_step", detail, f"/{key}/{position}/needs/{place}")
    needs = {step["id"]: list(step.get("needs", ())) for step in written}
    while cycle := _cycle(needs):
        where = f"/{key}/{ids.index(cycle[0])}/needs"
        detail = f"'{cycle[0]}' needs itself"
        if len(cycle) > 1:
            detail = f"the steps {quoted(cycle)} need one another in a circle, each the next"
        reading.report("cycle", detail, where)
        needs = {name: wanted for name, wanted in needs.items() if name not in cycle}


def _cycle(needs: Mapping[str, list[str]]) -> list[str]:
    """The steps of one circle of `needs`, or none: what is left when all that can run has run."""
    left = {name: {need for need in wanted if need in needs} for name, wanted in needs.items()}
    while free := [name for name, wanted in left.items() if not wanted]:
        for name in free:
            del left[name]
        for wanted in left.values():
            wanted.difference_update(free)
    if not left:
        return []
    walked = [next(iter(left))]
    while (following := sorted(left[walked[-1]])[0]) not in walked:
        walked.append(following)
    return walked[walked.index(following) :]


def _read_step(
    reading: Reading, pointer: str, step: Mapping[str, Any], scope: Scope, read_policy: ReadPolicy
) -> Step:
    inside = scope.within("item", "index") if "foreach" in step else scope
    arguments = reading.template(f"{pointer}/with", step.get("with", {}), inside) or compile_template({})
    return Step(
        id=step["id"],
        uses=step["uses"],
        arguments=arguments,
        condition=_condition(reading, f"{pointer}/if", step.get("if"), scope),
        save_as=step.get("save_as"),
        timeout=reading.duration(f"{pointer}/timeout"),
        retry=_own_retry(reading, pointer, step),
        on_error=_on_error(
            reading, f"{pointer}/on_error", step.get("on_error", "fail"), inside.within("error")
        ),
        reflex=read_policy(reading, f"{pointer}/reflex"),
        needs=tuple(step["needs"]) if "needs" in step else None,
        foreach=_foreach(reading, f"{pointer}/foreach", step, scope),
        max_parallel=step.get("max_parallel", 1),
    )


def _own_retry(reading: Reading, pointer: str, step: Mapping[str, Any]) -> RetryPolicy | None:
    return read_retry(reading, f"{pointer}/retry", step["retry"]) if "retry" in step else None


def _condition(reading: Reading, pointer: str, value: Any, scope: Scope) -> Expression | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return compile_expression("`true`" if value else "`false`")
    return reading.expression(pointer, value, scope)


def _on_error(reading: Reading, pointer: str, value: Any, scope: Scope) -> Any:
    if isinstance(value, str):
        return value
    fallback = reading.template(f"{pointer}/value", value["value"], scope)
    return {"value": fallback}


def _foreach(reading: Reading, pointer: str, step: Mapping[str, Any], scope: Scope) -> Template | None:
    if "foreach" not in step:
        return None
    # The list is stored, so that an attempt that resumes goes on with it; a secret never is.
    found = reading.template(pointer, step["foreach"], scope.without("secrets"))
    if found is not None and isinstance(step["foreach"], str) and found.constant:
        reading.report(
            "wrong_type", "must be a list or a template of one, like ${steps.events.items}", pointer
        )
    return found
