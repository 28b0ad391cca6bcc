"""The command line of the walk: seeds in, one line per seed out, the whole story of each breach; 1 if there was any."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psycopg
import structlog

from engine.errors import DueworkError
from tests import postgres
from tests.chaos import walk as described
from tests.chaos.walk.course import walk
from tests.chaos.walk.promises import Ended, compared
from tests.chaos.walk.world import PROMISES, Breach
from tests.polling import poll_until

CRASH = re.compile(r"was terminated by signal|because of crash of another server process|\bPANIC:|TRAP: ")
"""What PostgreSQL writes to its log when one of its processes has crashed."""


class ServerLog:
    """The log of a server whose files lie here, as an embedded one's do; of another server nothing is read."""

    def __init__(self, server: str) -> None:
        with closing(postgres.connect(server)) as conn:
            row = conn.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone()
        self.path = Path(row[0]).with_name("server.log") if row else None
        self._read = 0
        self.crashes()

    def crashes(self) -> list[str]:
        """The lines that tell of a crash, since this was asked the last time."""
        if self.path is None or not self.path.is_file():
            return []
        text = self.path.read_bytes()[self._read :]
        self._read += len(text)
        return [line for line in text.decode(errors="replace").splitlines() if CRASH.search(line)]


async def walked(server: str, template: str, seed: int, wild: bool) -> Ended:
    """One walk on a database of its own."""
    with postgres.database(server, template) as url:
        return await walk(url, seed, wild)


def story(ended: Ended, breaches: Sequence[Breach]) -> Iterator[str]:
    """What was promised and broken, then everything that is known of the walk."""
    for breach in breaches:
        yield f"  BREACH of ({breach.promise}), {PROMISES[breach.promise]}: run {breach.run}: {breach.text}"
    for place, run in enumerate(ended.runs):
        one = ended.drawn[place]
        yield f"  job{place}, run {run}: {json.dumps({'steps': one.steps, **one.members})}"
    yield from (f"  {line}" for line in ended.history)
    for kind, found in (("attempt", ended.attempts), ("step", ended.steps)):
        yield from (f"  {kind} {json.dumps(row, default=str)}" for row in found)


async def try_seed(server: str, template: str, seed: int) -> bool:
    """Walk in peace and in a storm, and say how it went; whether every promise was kept."""
    calm = await walked(server, template, seed, wild=False)
    wild = await walked(server, template, seed, wild=True)
    found = [*wild.breaches, *compared(calm, wild)]
    ends = [
        before if before == after else f"{before}→{after}"
        for before, after in zip(calm.statuses(), wild.statuses(), strict=True)
    ]
    broken = len(found) + len(calm.breaches)
    verdict = f"{broken} BREACHES" if broken else "clean"
    print(f"seed {seed}: {verdict}; {' '.join(ends)}; {wild.kills} deaths and lost leases", flush=True)
    if calm.breaches:
        print(*story(calm, calm.breaches), sep="\n", flush=True)
    if found:
        print(*story(wild, found), sep="\n", flush=True)
    return not broken


def _answers(server: str) -> bool:
    try:
        postgres.connect(server).close()
    except psycopg.OperationalError:
        return False
    return True


async def seed_kept(server: str, template: str, seed: int, log: ServerLog) -> str:
    """Try one seed; `clean`, `breach`, `crash` of the server, or `error` where the walk itself could not go on."""
    error: Exception | None = None
    try:
        verdict = "clean" if await try_seed(server, template, seed) else "breach"
    except (psycopg.Error, DueworkError) as raised:
        verdict, error = "error", raised
    await poll_until(lambda: _answers(server))
    if told := log.crashes():
        verdict = "crash"
        print(f"seed {seed}: CRASH OF THE SERVER", *told, sep="\n  ", flush=True)
    if error is not None:
        print(f"seed {seed}: given up", *traceback.format_exception(error), sep="\n  ", flush=True)
    return verdict


async def walk_all(server: str, seeds: Sequence[int]) -> bool:
    """Every seed, one after the other; whether all were clean."""
    template, log = postgres.template(server), ServerLog(server)
    count = Counter([await seed_kept(server, template, seed, log) for seed in seeds])
    print(
        f"{len(seeds)} seeds: {count['clean']} clean, {count['breach']} with breaches, "
        f"{count['crash']} with a crash of the server, {count['error']} given up"
    )
    return count["clean"] == len(seeds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, start a server if none is named, walk; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.walk",
        description=described.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, help="how many seeds (20, or 1 with --seed)")
    parser.add_argument("--seed", type=int, help="the first of them; default: drawn")
    parser.add_argument(
        "--database-url", help="a server that lets us create databases; default: an embedded one"
    )
    given = parser.parse_args(arguments)
    first = given.seed if given.seed is not None else int.from_bytes(os.urandom(3))
    count = given.seeds or (20 if given.seed is None else 1)
    if given.database_url:
        os.environ["DUEWORK_TEST_DATABASE_URL"] = given.database_url
    # The walk tells what happens itself; who is killed leaves tasks behind whose end nobody asks for.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    postgres.open_session()
    try:
        print(f"seeds {first} to {first + count - 1}", flush=True)
        return 0 if asyncio.run(walk_all(postgres.server_url(), range(first, first + count))) else 1
    finally:
        postgres.close_session()


if __name__ == "__main__":
    sys.exit(main())
