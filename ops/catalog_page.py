"""The reference page of the catalog format, from the published JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

OPENING = (
    "A catalog is a folder of YAML and JSON files (`DUEWORK_CATALOG`) beside the tools that duework brings. "
    "A file holds one entry, a list of entries, or `tools:` with a list; YAML may hold several documents. "
    "`duework tool lint` checks it without a server, and the schema for editors is "
    "[tool-v1.json](../../catalogs/schemas/tool-v1.json). An unknown key is an error, but for those that "
    "begin with `x-`. The starred are required."
)
VERSIONS = (
    "## Versions\n\n"
    "Several entries may have one address and different versions. `uses: weather.forecast@2` takes that "
    "version, `uses: weather.forecast` the newest: parts that are numbers count as numbers, 1.2 comes "
    "before 1.2.1, and what follows a dash is not ready yet (2.0-rc1 before 2.0). An attempt keeps the "
    "entries that it began with. The next attempt, and a run that goes on after a wait, take the newest of "
    "then; pin the version where that matters."
)
SCOPES = (
    "## Scopes\n\n"
    "An agent needs all scopes of a tool to store a definition that uses it, and to try it. Whenever an "
    "attempt begins, the agent that wrote that version of the task must hold them still: what was revoked "
    "counts within five seconds, and the run fails with `forbidden`. A scope is `tool:` and an address, one "
    "of duework's own, or words with dots between them, like `my-service.read`; an agent may hold the last "
    "with `*` at the end."
)
CHANGES = (
    "## Changes\n\n"
    "Workers and the API look at the folder every two seconds. A changed one is loaded whole beside the "
    "catalog in use and takes its place if it has no fault and all its tools can be called there. Otherwise "
    "the old one stays, and the log (`catalog.reload_refused`) and the metric `duework_catalog_refused` say "
    "so; a process that is only starting does not start. Code that entries name is not loaded anew: restart "
    "the workers for that."
)


def sections() -> Iterator[str]:
    """The members of an entry, those of its parts, and what a table cannot say."""
    text = resources.files("catalogs").joinpath("schemas/tool-v1.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    defined = schema["$defs"]
    yield _table(schema, defined)
    for name, given in schema["properties"].items():
        one = _resolved(given, defined)
        if one.get("properties"):
            yield f"## {name}\n\n{one.get('description', '')}\n\n{_table(one, defined)}"
    yield from (VERSIONS, SCOPES, CHANGES)


def _table(schema: Mapping[str, Any], defined: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        f"| `{name}`{' *' if name in required else ''} | {_kind(_resolved(one, defined))} | {_meaning(one, defined)} |"
        for name, one in schema["properties"].items()
    ]
    return "\n".join(("| Member | Type | Meaning |", "| --- | --- | --- |", *rows))


def _resolved(schema: Any, defined: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a local reference stands for, the words beside it winning."""
    if not isinstance(schema, Mapping):
        return {}
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    return {**defined.get(name, {}), **schema}


def _kind(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    kinds = schema.get("type", "any")
    if kinds == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _meaning(schema: Any, defined: Mapping[str, Any]) -> str:
    return str(_resolved(schema, defined).get("description", "")).replace("|", "\\|")
