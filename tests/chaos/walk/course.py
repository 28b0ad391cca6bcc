"""One walk, from its drawn pipelines to what they have left in the database."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

from engine import db
from engine.settings import Settings
from tests.chaos.walk import pipelines
from tests.chaos.walk.promises import Ended, ended
from tests.chaos.walk.storm import Storm, haste
from tests.chaos.walk.world import PATIENCE, Breach, World, lapse
from tests.factories import make_task, queue, rows

LIVE = """
SELECT id AS run_id, attempt, locked_by, locked_until, run_at, waiting, state FROM duework.due_work ORDER BY id
"""
WORKERS = 2
CONNECTIONS = 14


async def walk(url: str, seed: int, wild: bool) -> Ended:
    """Run the pipelines of a seed on the migrated database `url`, in a storm if it is `wild`.

    Raises psycopg.Error when the database itself goes away.
    """
    async with AsyncExitStack() as stack:
        looks, conn, other = [
            await stack.enter_async_context(await db.connect(url, f"walk-{name}"))
            for name in ("looks", "people", "others")
        ]
        pool = await stack.enter_async_context(
            db.pool(Settings(database_url=url), "worker", size=CONNECTIONS, hot=True)
        )
        world = World(url, random.Random(seed * 7919 + wild), looks)
        drawing = random.Random(seed)
        drawn = [pipelines.draw(drawing, number) for number in range(drawing.randint(3, 6))]
        await make_task(
            conn, pipelines.CHILD, pipelines.child_steps(), params={"k": ""}, output={"k": "${params.k}"}
        )
        made = [await make_task(conn, f"job{n}", one.steps, **one.members) for n, one in enumerate(drawn)]
        runs = [await queue(conn, task) for task in made]
        storm = Storm(world, wild, conn, other, pool, drawn, runs)
        await stack.enter_async_context(haste(world, wild))
        await _go(storm)
        return await ended(world, conn, drawn, runs, storm.canceled)


async def _go(storm: Storm) -> None:
    """Rounds of the world until no run is left; the workers end whatever happens."""
    world = storm.world
    try:
        storm.workers += [await storm.hire() for _ in range(WORKERS)]
        while live := await rows(storm.conn, LIVE):
            if world.over:
                world.breaches += [
                    Breach("b", f"still there after {PATIENCE:.0f} s: {row}", row["run_id"]) for row in live
                ]
                break
            await lapse(world.dice.random() * 0.02)
            await storm.answer()
            await storm.keep_house()
            if storm.wild:
                await storm.trouble()
        for worker in storm.workers:
            await worker.end()
    except BaseException:
        for worker in storm.workers:
            worker.stop()
        raise
