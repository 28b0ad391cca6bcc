"""/apply: many definitions at once."""

from __future__ import annotations

from api import definitions
from api.operations import DRY_RUN, Answer, Call, Operation, Parameter
from engine.errors import Malformed


async def apply(call: Call) -> Answer:
    """Make the tasks what the documents say, all or nothing."""
    if not call.documents:
        raise Malformed("the body holds no definition")
    dry = call.query["dry_run"]
    results = await definitions.apply(call, call.query["set"], prune=call.query["prune"])
    counts = dict.fromkeys(("created", "changed", "unchanged", "removed"), 0)
    for each in results:
        counts[each["result"]] += 1
    body = {"set": call.query["set"], "dry_run": dry, "results": results, "counts": counts}
    return Answer(body, commit=not dry)


OPERATIONS = (
    Operation(
        "POST", "/apply", apply, "apply", "Make tasks what the definitions say, atomically", {200: "Applied"},
        scope="task:write", body="Definitions", definitions=True, keyed=True,
        query=(
            Parameter(
                "set",
                {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
                "The set that these tasks belong to.",
            ),
            Parameter(
                "prune",
                {"type": "boolean", "default": False},
                "Cancel the tasks of the set that no definition names.",
            ),
            DRY_RUN,
        ),
        errors=(409, 422),
    ),
)  # fmt: skip
