"""The tools of a walk: three that keep count of their calls, beside the real ones for everything else."""

from __future__ import annotations

from datetime import timedelta

from engine.errors import ToolRejected, ToolUnavailable
from engine.settings import Settings
from engine.tools.calls import Answer, Arguments, Call, Parked
from engine.tools.entry import ToolEntry
from engine.tools.registry import Catalog, load_catalog, parse_entry
from engine.tools.toolbox import Toolbox
from tests.chaos.walk.world import Breach, Place, World, lapse
from tests.factories import rows

SHAPE = {"transport": "builtin", "endpoint": "walk", "input_schema": {}, "output_schema": {}}
CHECKPOINTED = """
SELECT 1 AS found FROM duework.checkpoint c JOIN duework.due_work d ON d.id = c.run_id
WHERE c.run_id = %s AND c.step = %s AND c.item = %s AND c.record ->> 'status' <> 'running'
  AND d.fence = %s AND d.locked_until IS NOT NULL
"""


def catalog() -> Catalog:
    """The shipped tools and those of the walk."""
    once = parse_entry(SHAPE | {"address": "walk.once", "idempotent": False}, "walk")
    again = parse_entry(SHAPE | {"address": "walk.again", "idempotent": True}, "walk")
    rated = parse_entry(SHAPE | {"address": "walk.rated", "idempotent": False}, "walk")
    ours = {entry.address: entry for entry in (once, again, rated)}
    return Catalog({**load_catalog(Settings()).entries, **ours})


class CountedTools(Toolbox):
    """One worker's toolbox. `walk.*` are played here; what else is called goes to `real`."""

    def __init__(self, world: World, real: Toolbox) -> None:
        super().__init__(real.transports, real.limiter)
        self.world = world

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Answer:
        """The answer of a tool, as the toolbox promises it."""
        if not entry.address.startswith("walk."):
            return await super().call(entry, arguments, call)
        if entry.address == "walk.rated" and self.world.chance(0.4):
            raise Parked(timedelta(milliseconds=self.world.dice.randint(0, 30)), called=False)
        return await self._play(arguments, call)

    async def _play(self, given: Arguments, call: Call) -> Answer:
        world, place = self.world, (call.run_id, call.step, call.item)
        await self._look(place, call)
        world.calls[place] += 1
        await lapse(world.dice.random() * world.dice.choice([0, 0.01, 0.01]))
        if world.calls[place] <= given.get("flaky", 0):
            raise ToolUnavailable(f"call {world.calls[place]} fails")
        if given.get("reject") or call.item in given.get("rejects", ()):
            raise ToolRejected("rejected for good")
        world.answers.setdefault(place, set()).add(call.fence)
        usage = {"usage": {"tokens": given["tokens"]}} if "tokens" in given else {}
        return {"step": call.step, "item": call.item, "n": given.get("n"), **usage}

    async def _look(self, place: Place, call: Call) -> None:
        """A worker that holds the lease calls nothing that a checkpoint says has ended."""
        item = -1 if call.item is None else call.item
        async with self.world.lock:
            found = await rows(self.world.looks, CHECKPOINTED, call.run_id, call.step, item, call.fence)
        if found:
            text = f"{call.step} item {call.item} called under fence {call.fence} though it was checkpointed"
            self.world.breaches.append(Breach("d", text, place[0]))
