"""Structured logs: how structlog is set up, and the list of every event that duework logs.

A log call is `log.info("run.settled", run_id=…)`: one event, one call, its name in EVENTS. Values pass the
gate's masking before they leave the process, so a log line never holds PII or a key by accident.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from engine.settings import Settings

EVENTS: tuple[str, ...] = (
    "api.failed",
    "api.request",
    "api.started",
    "breaker.closed",
    "breaker.opened",
    "catalog.reload_refused",
    "catalog.reloaded",
    "condition.decided",
    "filter.unanswered",
    "history.dropped",
    "lease.lost",
    "leases.reaped",
    "mcp.opening",
    "occurrences.missed",
    "process.exited",
    "process.started",
    "run.deduplicated",
    "run.failed",
    "run.settled",
    "run.unkeyed",
    "scheduler.started",
    "scheduler.stopped",
    "schedules.replanned",
    "service.failed",
    "service.started",
    "service.stopped",
    "settle.bisected",
    "slot.truncated",
    "slots.rotated",
    "task.paused",
    "task.unschedulable",
    "tick.done",
    "tool.printed",
    "waiting.woken",
    "waits.resolved",
    "worker.draining",
    "worker.started",
    "worker.stopped",
)
_UNMASKED = frozenset({"event", "level", "timestamp", "run_id", "task_id", "request_id", "worker", "fence"})


def configure(settings: Settings, mask: Callable[[str], str], *, stream: Any = None) -> None:
    """Set structlog up for this process; called once by the command that starts it. `mask` is the gate's."""
    stream = stream or sys.stderr
    # The pool reports each failed connection by itself; what matters of it reaches our own events.
    # The MCP SDK quotes what servers send, which no gate has looked at.
    for name in ("psycopg.pool", "mcp", "client"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty()) if text else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            masking(mask),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        logger_factory=structlog.PrintLoggerFactory(file=stream),
    )


def logger(room: str) -> Any:
    """A lazy logger that names its room ("workers.runner"); safe to make at any time."""
    return structlog.get_logger(room=room)


def masking(mask: Callable[[str], str]) -> Any:
    """structlog processor: text values lose what the gate would find in them."""

    def processor(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if isinstance(value, str) and key not in _UNMASKED:
                event[key] = mask(value)
        return event

    return processor
