"""What a definition says, ready to run: every duration read, every expression and template compiled.

Values only; `parse` makes them from documents, the executor and the store read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Literal

from engine.expressions import Expression
from engine.retry import RetryPolicy
from engine.schedule import Schedule, parse_schedule
from engine.schedule.moments import parse_moment
from engine.template import Template

TIMING_OPTIONS = ("gap", "fold", "exdates", "rdates", "end")
PROBE = "probe"
"""The id of the step that a condition schedule puts before the others."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """When a task is due, as it was written and is stored.

    kind: rrule, cron, every, once, event, condition or manual. expr: the rule, cron line, interval or moment;
    for an event its topic pattern; for a condition the interval between probes; for manual "". start: the
    rule's anchor as written, naive text being local time. options, each only if given: gap, fold, exdates,
    rdates, end, jitter (a duration), catchup {policy, window, max}; for an event filter (an expression); for
    a condition probe {uses, with, timeout, retry} and when (an expression).
    """

    kind: str
    expr: str
    timezone: str = "UTC"
    start: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def compile(self) -> Schedule:
        """The schedule to ask for instants. Raises ValidationFailed, pointers relative to the schedule."""
        start = None if self.start is None else _as_datetime(parse_moment(self.start, "/start"))
        timing = {name: self.options[name] for name in TIMING_OPTIONS if name in self.options}
        return parse_schedule(self.kind, self.expr, self.timezone, start, timing)

    def place(self, pointer: str) -> str:
        """Where a v1 definition says what the schedule calls `pointer`."""
        head = pointer.split("/")[1] if pointer else ""
        if head in ("gap", "fold"):
            return f"/schedule/dst{pointer}"
        if head in ("start", "end", "exdates", "rdates", "timezone"):
            return f"/schedule{pointer}"
        places = {"event": "/schedule/event/topic", "condition": "/schedule/condition/every"}
        return places.get(self.kind, f"/schedule/{self.kind}")


@dataclass(frozen=True, slots=True)
class Step:
    """One tool call of a pipeline.

    `condition` decides whether it runs (None: always); `foreach` renders to the list it runs over, at most
    `max_parallel` at a time; `needs` are ids (None: no `needs` in the document); `timeout` None means the
    tool's own, as does `retry`; `on_error` is "fail", "continue" or {"value": template of the output to go on with}.
    """

    id: str
    uses: str
    arguments: Template
    condition: Expression | None = None
    save_as: str | None = None
    timeout: timedelta | None = None
    retry: RetryPolicy | None = None
    on_error: Literal["fail", "continue"] | Mapping[str, Template] = "fail"
    reflex: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] | None = None
    foreach: Template | None = None
    max_parallel: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The names its output is read by: `${steps.<name>}`."""
        return (self.id,) if self.save_as in (None, self.id) else (self.id, str(self.save_as))


@dataclass(frozen=True, slots=True)
class Probe:
    """How a condition is looked at: one tool call, and `when`, an expression over its output and nothing else."""

    step: Step
    when: Expression


@dataclass(frozen=True, slots=True)
class Definition:
    """A whole task. Two definitions are equal when they say the same, in whichever format they were written.

    `document` is the normalised v1 JSON form: what `task_version` stores, and what parses to an equal
    definition. concurrency: {key: template text or None, limit, on_conflict} or None; dedupe_key is template
    text; budget holds max_tokens, max_cost_usd, max_time_seconds as given; `probe` is there where the schedule
    is a condition. `created_by` and `status` come from seed documents alone.
    """

    name: str | None
    title: str | None
    description: str | None
    labels: Mapping[str, str]
    schedule: ScheduleSpec
    concurrency: Mapping[str, Any] | None
    priority: int
    timeout: timedelta | None
    retry: RetryPolicy
    pause_after_failures: int | None
    budget: Mapping[str, Any]
    reflex: Mapping[str, Any]
    params_schema: Mapping[str, Any] | None
    params: Mapping[str, Any]
    dedupe_key: str | None
    dedupe_window: timedelta | None
    steps: tuple[Step, ...]
    on_failure: tuple[Step, ...]
    output: Template | None
    probe: Probe | None
    document: Mapping[str, Any] = field(repr=False)
    source_format: Literal["v1", "seed"] = field(default="v1", compare=False)
    created_by: str | None = field(default=None, compare=False)
    status: str | None = field(default=None, compare=False)

    @property
    def is_graph(self) -> bool:
        """Whether `needs` decide what may run, rather than the order in the document."""
        return any(step.needs is not None for step in self.steps)


def _as_datetime(moment: date | datetime) -> datetime:
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time())
