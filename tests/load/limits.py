"""What a tool's limits cost a call: none, each by itself, all together; beside the transport called directly.

    python -m tests.load.limits [--calls 20000] [--at-once 10] [--rounds 5]

An echo that answers at once is called by `--at-once` callers. The rate and the concurrency are far above what they
reach, so that nothing waits; statements are those of rates and concurrency, counted where they are sent. Rounds are
interleaved, the figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import migrations
from engine import db
from engine.settings import Settings
from engine.tools.calls import Call
from engine.tools.entry import ToolEntry
from engine.tools.registry import parse_entry
from engine.tools.toolbox import Toolbox, open_toolbox
from tests import postgres
from tests.load.drain import server

LIMITS: dict[str, dict[str, Any]] = {
    "no limits": {},
    "breaker": {"breaker": {}},
    "rate": {"rate": {"limit": 1_000_000, "per": "1s"}},
    "concurrency": {"concurrency": 100},
    "all three": {"breaker": {}, "rate": {"limit": 1_000_000, "per": "1s"}, "concurrency": 100},
}
CALL = Call(UUID(int=1), "step", "key", 1, 1, timedelta(seconds=60))
ARGUMENTS = {"n": 1}
Calls = Callable[[], Awaitable[Any]]


def entry(name: str, limits: dict[str, Any]) -> ToolEntry:
    """An echo with these limits."""
    plain = {"transport": "builtin", "endpoint": "core.echo", "input_schema": {}, "output_schema": {}}
    return parse_entry(plain | limits | {"address": name.replace(" ", "-")}, "bench.yaml")


async def measured(call: Calls, calls: int, at_once: int) -> float:
    """Microseconds of one call."""

    async def caller() -> None:
        for _ in range(calls // at_once):
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    return (time.perf_counter() - began) / (calls // at_once * at_once) * 1e6


def variants(toolbox: Toolbox) -> dict[str, Calls]:
    """What is measured, by name."""
    bare = entry("bare", {})

    def through(given: ToolEntry) -> Calls:
        return lambda: toolbox.call(given, ARGUMENTS, CALL)

    direct: Calls = lambda: toolbox.transports["builtin"].call(bare, ARGUMENTS, CALL)  # noqa: E731 one of a kind
    return {"the transport itself": direct} | {
        name: through(entry(name, each)) for name, each in LIMITS.items()
    }


async def run(url: str, calls: int, at_once: int, rounds: int) -> None:
    """Measure every variant `rounds` times and print the medians."""
    settings = Settings(database_url=url)
    async with db.pool(settings, "bench", size=4) as pool, open_toolbox(settings, pool) as toolbox:
        made = variants(toolbox)
        seen: dict[str, list[float]] = {name: [] for name in made}
        sent: dict[str, float] = {}
        for call in made.values():
            await measured(call, at_once * 10, at_once)
        for _ in range(rounds):
            for name, call in made.items():
                before = pool.get_stats().get("requests_num", 0)
                seen[name].append(await measured(call, calls, at_once))
                sent[name] = (pool.get_stats().get("requests_num", 0) - before) / calls
    print(f"{calls} calls by {at_once} callers, medians of {rounds}\n")
    print(f"{'':24}{'µs':>9}{'statements per call':>22}")
    for name, each in seen.items():
        print(f"{name:24}{statistics.median(each):>9.2f}{sent[name]:>22.4f}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database-url", help="a server to measure on; default: an embedded one")
    given = parser.parse_args(arguments)
    postgres.open_session()
    with server(given.database_url) as admin, postgres.database(admin) as url:
        migrations.upgrade(url)
        asyncio.run(run(url, given.calls, given.at_once, given.rounds))


if __name__ == "__main__":
    main()
