"""What the format can say and this version does not do: refused, because silence would be a promise."""

from __future__ import annotations

from collections.abc import Iterator

from engine.pipeline.definition import Definition


def unavailable(definition: Definition) -> Iterator[str]:
    """JSON pointers of the members that no run would honour."""
    concurrency = definition.concurrency
    given = {
        "/concurrency": concurrency is not None and concurrency.get("on_conflict") != "allow",
        "/budget": bool(definition.budget),
        "/pause_after_failures": definition.pause_after_failures is not None,
        "/dedupe": definition.dedupe_key is not None,
    }
    yield from (pointer for pointer, used in given.items() if used)
    for room, steps in (("steps", definition.steps), ("on_failure", definition.on_failure)):
        yield from (
            f"/{room}/{number}/foreach" for number, step in enumerate(steps) if step.foreach is not None
        )
