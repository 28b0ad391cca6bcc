"""Limits and policies that have no effect, or that another one of them undoes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from engine.durations import format_duration
from engine.pipeline.definition import Definition, Step
from engine.pipeline.lint.walk import steps_of
from engine.pipeline.reading import Reading, at_pointer
from engine.retry import RetryPolicy

NEVER: Mapping[str, str] = {
    "store_unavailable": "an outage of the database is waited out without an attempt",
    "input_invalid": "the same input is rendered again, and refused again",
}
"""Codes of retry.on that no step is helped by, and why."""


def lint_policies(reading: Reading, definition: Definition) -> None:
    """Findings about schedule, retries, timeouts and parallelism."""
    for warning in definition.schedule.compile().warnings:
        reading.report("schedule", warning, f"/schedule/{definition.schedule.kind}")
    _lint_retry(reading, "/retry", definition.retry)
    for pointer, step in steps_of(definition):
        if step.retry is not None:
            _lint_retry(reading, f"{pointer}/retry", step.retry)
        _lint_timeout(reading, pointer, step, definition.timeout)
        if step.foreach is None and step.max_parallel != 1:
            detail = "it bounds the items of a foreach, and this step has none"
            reading.report("no_effect", detail, f"{pointer}/max_parallel")


def _lint_retry(reading: Reading, pointer: str, retry: RetryPolicy) -> None:
    written: Mapping[str, Any] = at_pointer(reading.v1, pointer) or {}
    for number, code in enumerate(written.get("on", ())):
        if code in NEVER:
            reading.report(
                "never_retried", f"{code} is not mended by a retry: {NEVER[code]}", f"{pointer}/on/{number}"
            )
    if retry.max_attempts == 1 and written.keys() - {"max_attempts"}:
        detail = "there is one attempt only, so the rest of `retry` has no effect: the first try counts"
        reading.report("no_effect", detail, f"{pointer}/max_attempts")


def _lint_timeout(reading: Reading, pointer: str, step: Step, run: timedelta | None) -> None:
    if run is not None and step.timeout is not None and step.timeout > run:
        detail = f"longer than the whole run may take ({format_duration(run)}), which ends the step first"
        reading.report("no_effect", detail, f"{pointer}/timeout")
