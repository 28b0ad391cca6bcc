"""/tools: the catalog that this server checks definitions against."""

from __future__ import annotations

from api.operations import Answer, Call, Operation


async def listing(call: Call) -> Answer:
    """Every tool by address."""
    return Answer({"items": [entry.as_dict() for entry in call.resources.catalog.listed()]})


async def show(call: Call) -> Answer:
    """One tool by address or alias."""
    return Answer(call.resources.catalog.get(call.path["address"]).as_dict())


OPERATIONS = (
    Operation("GET", "/tools", listing, "tools", "List the tools of the catalog", {200: "Tools"}, scope="task:read"),
    Operation(
        "GET", "/tools/{address}", show, "tools", "Show a tool", {200: "Tool"},
        scope="task:read", errors=(404,),
    ),
)  # fmt: skip
