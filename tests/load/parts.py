"""What the pure parts of a step cost beside the libraries they could have been: schemas, expressions, templates.

    python -m tests.load.parts [--calls 2000] [--rounds 7]

One line per part: µs per call of ours and of the reference, the best of several rounds, taken in turns so that
a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import jmespath
from jsonschema import Draft202012Validator

from engine.contract import compile_schema
from engine.expressions import compile_expression
from engine.template import compile_template

CONTEXT = {
    "params": {"city": "Lisbon"},
    "steps": {"weather": {"temperature": 31}},
    "now": "2026-03-02T08:00:00+00:00",
}
PERSON = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
}
ARGUMENTS = {"city": "${params.city}", "text": "Brief for ${params.city}, ${now}", "k": [1, 2]}


def pairs() -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Each part with its reference."""
    checked, validator = compile_schema(PERSON), Draft202012Validator(PERSON)
    value = {"name": "x", "age": 3}
    compared = compile_expression("steps.weather.temperature > 25")
    searched = jmespath.compile("steps.weather.temperature > `25`")
    template = compile_template(ARGUMENTS)
    rendered = json.dumps(template.render(CONTEXT))
    return {
        "schema check / jsonschema": (lambda: checked.check(value), lambda: validator.is_valid(value)),
        "expression / jmespath": (lambda: compared.evaluate(CONTEXT), lambda: searched.search(CONTEXT)),
        "template / json.loads of it": (
            lambda: template.render(CONTEXT),
            lambda: json.loads(rendered),
        ),
    }


def measure(call: Callable[[], Any], calls: int) -> float:
    """µs per call."""
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begun) / calls * 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    print(f"{'part / reference':<30} {'ours µs':>8} {'ref. µs':>8} {'times':>6}")
    for name, (ours, theirs) in pairs().items():
        rounds = [(measure(ours, given.calls), measure(theirs, given.calls)) for _ in range(given.rounds)]
        mine, other = (min(column) for column in zip(*rounds, strict=True))
        print(f"{name:<30} {mine:>8.1f} {other:>8.1f} {other / mine:>6.1f}")


if __name__ == "__main__":
    main()
