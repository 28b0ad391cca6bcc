"""What the format can say and this version does not do: refused, because silence would be a promise."""

from __future__ import annotations

from collections.abc import Iterator

from engine.pipeline.definition import Definition


def unavailable(definition: Definition) -> Iterator[str]:
    """JSON pointers of the members that no run would honour."""
    if definition.dedupe_key is not None and definition.schedule.kind == "condition":
        yield "/dedupe"
