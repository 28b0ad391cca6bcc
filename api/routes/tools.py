"""/tools: the catalog that this server checks definitions against, and a way to try what is in it."""

from __future__ import annotations

from typing import Any

from api.operations import Answer, Call, Operation
from engine.store import limits
from engine.tools.entry import ToolEntry
from engine.tools.toolbox import open_toolbox
from engine.trial import try_tool


async def listing(call: Call) -> Answer:
    """Every tool by address, the newest version first, with the state of its breaker."""
    states = await _breakers(call)
    return Answer({"items": [_shown(entry, states) for entry in call.resources.catalog.listed()]})


async def show(call: Call) -> Answer:
    """One tool by address or alias; `@version` takes that one."""
    return Answer(_shown(call.resources.catalog.get(call.path["address"]), await _breakers(call)))


async def trial(call: Call) -> Answer:
    """Call a tool now, through its schemas, the gate and its limits; the caller needs what a task's author needs."""
    entry = call.resources.catalog.get(call.path["address"])
    for scope in (f"tool:{entry.address}", *entry.scopes):
        call.agent.require(scope)
    await call.audit("tool.tested", f"tool:{entry.name}")
    agent_id = call.agent.id

    async def follow() -> Answer:
        resources = call.resources
        async with open_toolbox(resources.settings, resources.pool, resources.ask) as toolbox:
            given = call.body.get("input", {})
            pardon = resources.allowed.pardon()
            settings, ask = resources.settings, resources.ask
            return Answer(await try_tool(entry, given, toolbox, settings, agent_id, ask, pardon))

    return Answer(follow=follow)


async def _breakers(call: Call) -> dict[str, Any]:
    return {row["tool"]: row for row in await limits.breakers(call.conn)}


def _shown(entry: ToolEntry, states: dict[str, Any]) -> dict[str, Any]:
    row = states.get(entry.name)
    state = row["state"] if row else "closed"
    return {**entry.as_dict(), "breaker_state": state if entry.breaker is not None else None}


OPERATIONS = (
    Operation("GET", "/tools", listing, "tools", "List the tools of the catalog", {200: "Tools"}, scope="task:read"),
    Operation(
        "GET", "/tools/{address}", show, "tools", "Show a tool", {200: "Tool"},
        scope="task:read", errors=(404,),
    ),
    Operation(
        "POST", "/tools/{address}/test", trial, "tools", "Call a tool once, to try it", {200: "ToolTrial"},
        body="ToolTest", errors=(404, 409, 422),
    ),
)  # fmt: skip
