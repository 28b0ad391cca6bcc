"""Schedules: when a task is due, as a pure function of its definition.

    text ── parse_schedule ──> Schedule ── next(after, limit) ──> UTC instants

`kinds` compiles each kind of schedule into sources of instants; `rule`, `content` and `cron` read the texts,
`rruler` (by the `shapes` of months and years) and `elapsed` generate from them, and `dst` alone turns wall time
into instants. Nothing here knows the present time or does any I/O beyond reading the packaged zone data.
"""

from engine.schedule.dst import DstPolicy
from engine.schedule.kinds import default_start
from engine.schedule.schedules import (
    Schedule,
    jitter_offset,
    occurrences,
    parse_schedule,
    restore_schedule,
)
from engine.schedule.words import describe
from engine.schedule.zones import tzdata_version

__all__ = [
    "DstPolicy",
    "Schedule",
    "default_start",
    "describe",
    "jitter_offset",
    "occurrences",
    "parse_schedule",
    "restore_schedule",
    "tzdata_version",
]
