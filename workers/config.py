"""What one worker process is told: sizes and times, taken from the settings once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from engine.errors import ValidationFailed
from engine.settings import Settings
from engine.store.workers import Process


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """`concurrency` runs at once; up to `buffer` more are leased ahead when runs are short."""

    process: Process
    concurrency: int
    buffer: int
    lease: timedelta
    poll: timedelta
    poll_only: bool
    heartbeat: timedelta
    drain: timedelta
    labels: dict[str, str]

    @classmethod
    def of(cls, settings: Settings) -> WorkerConfig:
        """From the settings of this process. Raises ValidationFailed for labels that are not `name=value`."""
        return cls(
            process=Process.here("worker"),
            concurrency=max(1, settings.concurrency),
            buffer=200,
            lease=settings.lease_seconds,
            poll=settings.poll_interval,
            poll_only=settings.poll_only,
            heartbeat=settings.heartbeat_interval,
            drain=settings.drain_timeout,
            labels=_labels(settings.labels),
        )


def _labels(text: str) -> dict[str, str]:
    pairs = [pair.strip() for pair in text.split(",") if pair.strip()]
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise ValidationFailed(f"label {wrong[0]!r} is not of the form name=value (DUEWORK_LABELS)")
    return dict(pair.split("=", 1) for pair in pairs)
