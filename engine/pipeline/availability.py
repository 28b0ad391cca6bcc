"""What the format can say and this version does not do: refused, because silence would be a promise."""

from __future__ import annotations

from collections.abc import Iterator

from engine.pipeline.definition import Definition


def unavailable(definition: Definition) -> Iterator[str]:
    """JSON pointers of the members that no run would honour."""
    given = {
        "/budget": bool(definition.budget),
        "/dedupe": definition.dedupe_key is not None and definition.schedule.kind == "condition",
    }
    yield from (pointer for pointer, used in given.items() if used)
    for room, steps in (("steps", definition.steps), ("on_failure", definition.on_failure)):
        yield from (
            f"/{room}/{number}/foreach" for number, step in enumerate(steps) if step.foreach is not None
        )
