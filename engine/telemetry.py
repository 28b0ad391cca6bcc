"""Structured logs: how structlog is set up, and the list of every event that duework logs.

A log call is `log.info("run.settled", run_id=…)`: one event, one call, its name in EVENTS. Values pass the
gate's masking before they leave the process, so a log line never holds PII or a key by accident.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
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
    "gate.closed",
    "gate.opened",
    "history.dropped",
    "lease.lost",
    "leases.reaped",
    "library.warned",
    "mcp.opening",
    "occurrences.missed",
    "process.crashed",
    "process.exited",
    "process.started",
    "request.pointless",
    "request.refused",
    "run.deduplicated",
    "run.failed",
    "run.refused",
    "run.released",
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
            if key not in _UNMASKED:
                event[key] = _throughout(value, mask)
        return event

    return processor


def _throughout(value: Any, mask: Callable[[str], str]) -> Any:
    """A field as the line may hold it: every text in it masked, keys included, an object by the text it renders to."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {_throughout(key, mask): _throughout(member, mask) for key, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_throughout(item, mask) for item in value]
    return value if value is None or isinstance(value, int | float) else mask(str(value))


def capture() -> None:
    """Make every other way in which this process can write to its log an event: Python's warnings, what libraries
    log, and exceptions that nobody caught. For processes that serve; called once, after `configure`.

    Their texts quote what they stumbled over, and the interpreter and the libraries would write them as they are.
    """
    log = logger("process")

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log.warning(
                "library.warned", library=record.name, text=record.getMessage(), exc_info=record.exc_info
            )

    def warned(message: Warning | str, category: type[Warning], *_place: Any, **_more: Any) -> None:
        log.warning("library.warned", library=category.__name__, text=str(message))

    logging.getLogger().addHandler(Forward(logging.WARNING))
    for name in ("psycopg.pool", "mcp", "client"):  # silent, as `configure` has it
        logging.getLogger(name).propagate = False
    for name in ("uvicorn", "uvicorn.access"):  # under `uvicorn api.main:app`: its lines quote query strings
        logging.getLogger(name).handlers.clear()
    warnings.showwarning = warned
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed
    sys.unraisablehook = _unraised


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log = logger("process")
        log.error("process.crashed", exc_info=(kind, error, trace))


def _thread_crashed(given: threading.ExceptHookArgs) -> None:
    _crashed(given.exc_type, given.exc_value or given.exc_type(), given.exc_traceback)


def _unraised(given: Any) -> None:
    log = logger("process")
    log.error("process.crashed", exc_info=(given.exc_type, given.exc_value, given.exc_traceback))
