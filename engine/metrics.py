"""Prometheus metrics: one registry object per process, made by whoever starts the process.

`Metrics` holds every instrument, so that nothing registers at import and tests can have their own. The
reference page is generated from `Metrics(…).describe()`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Every instrument of duework on its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.http_requests = Histogram(
            "duework_http_request_duration_seconds",
            "HTTP request duration",
            ("method", "route", "status"),
            registry=r,
            buckets=_SECONDS,
        )
        self.runs = Counter("duework_runs_total", "Finished attempts by status", ("status",), registry=r)
        self._ended: dict[str, Counter] = {}
        self.run_seconds = Histogram(
            "duework_run_duration_seconds", "Duration of an attempt", registry=r, buckets=_SECONDS
        )
        self.start_lateness = Histogram(
            "duework_start_lateness_seconds",
            "From the instant a run was due to the start of its attempt",
            registry=r,
            buckets=_SECONDS,
        )
        self.leased = Counter("duework_leases_total", "Leases taken", registry=r)
        self.leases_lost = Counter(
            "duework_leases_lost_total", "Leases that another worker took over", registry=r
        )
        self.reaped = Counter("duework_leases_reaped_total", "Expired leases taken back", registry=r)
        self.materialised = Counter(
            "duework_occurrences_materialised_total", "Occurrences written by the tick", registry=r
        )
        self.tick_seconds = Histogram(
            "duework_tick_duration_seconds", "Duration of one tick", registry=r, buckets=_SECONDS
        )
        self.verdicts = Counter(
            "duework_gate_verdicts_total", "Gate verdicts by action", ("action",), registry=r
        )
        self.gate_calls = Histogram(
            "duework_gate_call_duration_seconds",
            "Tries of the remote gate; the result is answered, failed, or unjudged where it would not take the text",
            ("result",),
            registry=r,
            buckets=_SECONDS,
        )
        self.probes = Counter(
            "duework_probes_total", "Probes of conditions by what followed", ("decision",), registry=r
        )
        self._add_states(r)

    def ended(self, status: str) -> None:
        """Count an attempt that has ended; its counter is looked up once."""
        counter = self._ended.get(status)
        if counter is None:
            counter = self._ended[status] = self.runs.labels(status=status)
        counter.inc()

    def _add_states(self, r: CollectorRegistry) -> None:
        self.slots_busy = Gauge("duework_worker_slots_busy", "Runs under way in this process", registry=r)
        self.queue_ready = Gauge("duework_queue_ready", "Rows that could be leased now", registry=r)
        self.queue_oldest = Gauge(
            "duework_queue_oldest_seconds", "Age of the oldest row that could be leased now", registry=r
        )
        self.waits = Gauge("duework_waits", "Steps that wait, by what for", ("kind",), registry=r)
        self.tick_age = Gauge(
            "duework_tick_age_seconds",
            "Time since any scheduler's last tick; +Inf without a scheduler",
            registry=r,
        )
        self.catalog_refused = Gauge(
            "duework_catalog_refused",
            "1 while this process keeps an older catalog, because the folder as it is now has faults",
            registry=r,
        )
        self.breaker_open = Gauge(
            "duework_tool_breaker_open",
            "Circuit breakers by tool: 0 closed, 0.5 half open, 1 open",
            ("tool",),
            registry=r,
        )
        self.gate_breaker = Gauge(
            "duework_gate_breaker_open",
            "Circuit breaker of the remote gate in this process: 0 closed or no such gate, 0.5 half open, 1 open",
            registry=r,
        )
        self.tick_late_after = Gauge(
            "duework_tick_late_after_seconds",
            "The age at which that scheduler counts as gone: three of its intervals, at least 30 s",
            registry=r,
        )
        self.tasks_set_aside = Gauge(
            "duework_tasks_set_aside",
            "Active tasks that no tick could plan (task.schedule_error)",
            registry=r,
        )

    def exposition(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self.registry)

    def describe(self) -> list[tuple[str, str, str]]:
        """(name, type, documentation) of every metric, sorted by name: the source of the reference page."""
        return sorted((m.name, m.type, m.documentation) for m in self.registry.collect())
