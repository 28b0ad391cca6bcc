"""What a call of a function or a program costs, beside starting a process for it by hand.

    python -m tests.load.children [--calls 300] [--rounds 5]

One line per way to call: µs until the answer is there, and µs of the worker's own CPU; medians over the rounds of the
mean of a round, taken in turns so that a busy machine slows all. Schema, gate and checkpoint are not in these figures.
"by hand" is the least that a worker without a pool would do: asyncio's own subprocess, its input written and its
output parsed, without a guard, a limit or a timeout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.unit.tools.children import CALL, command, function, tools

Way = Callable[[dict[str, Any]], Awaitable[Any]]
PROGRAM = "import json, sys; print(json.dumps(json.load(sys.stdin)['value']))"


async def by_hand(argv: Sequence[str], given: dict[str, Any]) -> Any:
    """A process of its own, without a limit, a timeout or a guard."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
    output, _ = await process.communicate(json.dumps(given).encode())
    return json.loads(output)


async def measured(way: Way, calls: int) -> tuple[float, float]:
    """µs per call: on the clock, and of this process's CPU."""
    begun, spent = time.perf_counter(), time.process_time()
    for number in range(calls):
        await way({"value": {"number": number, "text": "x" * 100}})
    return (time.perf_counter() - begun) / calls * 1e6, (time.process_time() - spent) / calls * 1e6


async def compare(calls: int, rounds: int) -> dict[str, tuple[float, float]]:
    """The medians by way."""
    async with tools() as box:
        many, few = calls, max(1, calls // 10)
        echo, cat = function("echo"), command("cat")
        python, fresh = (sys.executable, "-c", PROGRAM), ("python: a new interpreter by hand", few)
        ways: dict[tuple[str, int], Way] = {
            ("python tool, its child reused", many): lambda given: box.call(echo, given, CALL),
            fresh: lambda given: by_hand(python, given),
            ("command tool: cat", few): lambda given: box.call(cat, given, CALL),
            ("command: cat by hand", few): lambda given: by_hand(["cat"], given),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in ways}
        for way in ways.values():
            await way({"value": 0})
        for _ in range(rounds):
            for (name, count), way in ways.items():
                found[name].append(await measured(way, count))
    return {
        name: (statistics.median(t for t, _ in each), statistics.median(c for _, c in each))
        for name, each in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    found = asyncio.run(compare(given.calls, given.rounds))
    print(f"{'call':<36} {'µs':>8} {'own CPU µs':>11}")
    for name, (taken, spent) in found.items():
        print(f"{name:<36} {taken:>8.0f} {spent:>11.0f}")


if __name__ == "__main__":
    main()
