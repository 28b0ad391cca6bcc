"""A catalog entry as the rest of duework sees it: one frozen value, its schemas compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from engine.contract import Contract
from engine.limits import PATIENCE, Breaker, Rate
from engine.reflex import written
from engine.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """One tool: how it is reached, what goes in and comes out, and what it may cost.

    `endpoint` is of whatever JSON shape its transport takes, and `options` the entry's member of the transport's
    name ({} without one): `http:` of an http tool, `mcp:` of an mcp tool. `reflex` is a policy layer as
    `parse_policy` returns it. `retry` None leaves retries to the step; `rate`, `concurrency` and `breaker` None set
    no limit. `secrets` are the only ones that it is given, where there are any: by its transport, or by a step.
    """

    address: str
    transport: str
    endpoint: Any
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    timeout: timedelta
    scopes: tuple[str, ...]
    idempotent: bool
    reflex: dict[str, Any]
    annotations: dict[str, Any]
    allow_hosts: tuple[str, ...]
    aliases: tuple[str, ...]
    source: str
    input: Contract = field(compare=False, repr=False)
    output: Contract = field(compare=False, repr=False)
    version: str | None = None
    retry: RetryPolicy | None = None
    rate: Rate | None = None
    concurrency: int | None = None
    breaker: Breaker | None = None
    secrets: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    patience: timedelta = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """How long a call may have to wait before it begins: nothing without limits, which is asked at each call."""
        limits = sum(limit is not None for limit in (self.rate, self.concurrency, self.breaker))
        object.__setattr__(self, "patience", limits * PATIENCE)

    @property
    def name(self) -> str:
        """What tells it apart, and its limits are counted by: the address, with `@version` where it has one."""
        return self.address if self.version is None else f"{self.address}@{self.version}"

    def as_dict(self) -> dict[str, Any]:
        """The public form: what /tools and `duework tool get` show."""
        return {
            "address": self.address,
            "version": self.version,
            "transport": self.transport,
            "title": self.title,
            "description": self.description,
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
            "timeout_seconds": self.timeout.total_seconds(),
            "scopes": list(self.scopes),
            "idempotent": self.idempotent,
            "reflex": written(self.reflex),
            "annotations": self.annotations,
            "aliases": list(self.aliases),
            "retry": None if self.retry is None else self.retry.as_dict(),
            "rate": None if self.rate is None else self.rate.as_dict(),
            "concurrency": self.concurrency,
            "breaker": None if self.breaker is None else self.breaker.as_dict(),
            "secrets": list(self.secrets),
            "source": self.source,
        }
