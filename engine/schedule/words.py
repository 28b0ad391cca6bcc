"""A schedule in plain words, for previews and lists.

Common shapes get a sentence; whatever has no short true sentence gets its own text. Nothing is left out for
the sake of a nicer sentence: a reader must be able to rely on it.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.durations import format_duration, parse_duration
from engine.schedule import cron
from engine.schedule.content import parse_content
from engine.schedule.cron_words import cron_words
from engine.schedule.rule_words import rule_words
from engine.schedule.schedules import Schedule


def describe(schedule: Schedule) -> str:
    """`schedule` in words ("every weekday at 08:30, Europe/Chisinau"), or its text where no words fit."""
    writers: dict[str, Callable[[Schedule], str]] = {
        "rrule": _rrule,
        "cron": _cron,
        "every": lambda s: f"every {_span(s.expr)}",
        "condition": lambda s: f"when a probe made every {_span(s.expr)} turns true",
        "once": lambda s: f"once at {s.expr.strip()}",
        "event": lambda s: f"on every event that matches {s.expr}",
        "manual": lambda _: "on request only",
    }
    words = writers[schedule.kind](schedule)
    if schedule.kind in ("event", "manual"):
        return words
    zone = f", {schedule.compiled.frame.zone.key}" if schedule.kind in ("rrule", "cron", "once") else ""
    return f"{words}{_end(schedule)}{zone}{_beside(schedule)}"


def _span(expr: str) -> str:
    return format_duration(parse_duration(expr))


def _end(schedule: Schedule) -> str:
    end = schedule.options.get("end")
    return "" if end is None else f", not after {end if isinstance(end, str) else end.isoformat()}"


def _beside(schedule: Schedule) -> str:
    """How many dates stand beside the rule; those within a text that is shown as it is are seen there."""
    counts = (
        (len(schedule.options.get("rdates") or ()), "added"),
        (len(schedule.options.get("exdates") or ()), "excluded"),
    )
    notes = [f"{count} date{'s' if count > 1 else ''} {word}" for count, word in counts if count]
    return f" ({', '.join(notes)})" if notes else ""


def _rrule(schedule: Schedule) -> str:
    content = parse_content(schedule.expr)
    alone = len(content.rules) == 1 and not (content.exrules or content.rdates or content.exdates)
    words = rule_words(content.rules[0], schedule.compiled.frame) if alone else None
    return words or f"by the rule {' '.join(schedule.expr.split())}"


def _cron(schedule: Schedule) -> str:
    words = cron_words(cron.parse_cron(schedule.expr))
    return words or f"by the cron line {' '.join(schedule.expr.split())}"
