"""A misshapen document with its faulty parts taken out, so that the meaning of the rest can be told as well.

Else an author would mend a typing error only to be told of the next fault. What the stand-ins would cause is left
out of the answer: no problem is reported that mending the shape alone would make go away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from engine.errors import Problem
from engine.expressions.values import copied
from engine.pipeline.shape import contract

_ROUNDS = 4
_HEAD: Mapping[str, Any] = {"apiVersion": "duework/v1", "kind": "Pipeline", "schedule": {"manual": True}}
_NAMES = re.compile(r"/(steps|on_failure)(/\d+(/id|/save_as)?)?", re.ASCII)
_OF_NAMES = frozenset({"unknown_step", "duplicate_step", "cycle"})
"""What may be said of names only where all of them are known."""


class Mended:
    """A document in v1 form that the schema accepts, and the pointers of what was taken out or replaced."""

    def __init__(self, v1: Mapping[str, Any]) -> None:
        self.v1: dict[str, Any] = copied(dict(v1))
        self.lost: set[str] = set()
        self._probed = False

    def tells(self, problem: Problem) -> bool:
        """Whether a problem of what is left is one of the document's own. Its pointer is that of the v1 form."""
        if any(problem.pointer == each or problem.pointer.startswith(f"{each}/") for each in self.lost):
            return False
        return problem.code not in _OF_NAMES or not (self._probed or any(map(_NAMES.fullmatch, self.lost)))

    def take_out(self, pointer: str) -> None:
        """Replace the smallest part around `pointer` that the rest can do without."""
        head, *rest = pointer.split("/")[1:] or [""]
        if head in ("steps", "on_failure") and rest and isinstance(self.v1[head], list):
            self._step(head, int(rest[0]), rest[1:])
        elif (
            head == "schedule"
            and rest
            and rest[0] in ("dst", "exdates", "rdates", "jitter", "catchup", "end")
        ):
            self._drop(self.v1["schedule"], rest[0], f"/schedule/{rest[0]}")
        elif head:
            written = self.v1.get(head)
            self._probed |= head == "schedule" and isinstance(written, dict) and "condition" in written
            self._drop(self.v1, head, f"/{head}")
        self.v1 = dict(_HEAD) | {"steps": [self._stand_in(0)]} | self.v1

    def _drop(self, container: Any, key: str, pointer: str) -> None:
        self.lost.add(pointer)
        if isinstance(container, dict):
            container.pop(key, None)

    def _step(self, head: str, number: int, rest: list[str]) -> None:
        step = self.v1[head][number]
        if not isinstance(step, dict):
            self.v1[head][number] = self._stand_in(number)
            self.lost.add(f"/{head}/{number}")
        elif rest == ["foreach"]:
            step["foreach"] = []  # so that ${item} keeps its meaning
            self.lost.add(f"/{head}/{number}/foreach")
        elif rest:
            self._drop(step, rest[0], f"/{head}/{number}/{rest[0]}")
        if isinstance(step, dict):
            self._fill(step, head, number)

    def _fill(self, step: dict[str, Any], head: str, number: int) -> None:
        for key, value in self._stand_in(number).items():
            if key not in step:
                step[key] = value
                self.lost.add(f"/{head}/{number}/{key}")

    def _stand_in(self, number: int) -> dict[str, str]:
        return {"id": f"step-{number + 1}-as-yet-unnamed", "uses": "core.echo"}


def mended(v1: Mapping[str, Any], problems: Iterable[Problem]) -> Mended | None:
    """`v1` without the parts that `problems`, from its schema, are about; None when too little would be left."""
    attempt, found = Mended(v1), list(problems)
    for _ in range(_ROUNDS):
        if not found:
            return attempt
        for problem in found:
            attempt.take_out(problem.pointer)
        found = contract("pipeline-v1").check(attempt.v1, show_keys=True)
    return None
