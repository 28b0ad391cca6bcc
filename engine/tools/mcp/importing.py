"""Tools of an MCP server as a catalog file: written when they are imported, brought up to date when they are again.

A file is read and written as YAML with its comments and its order. What a person decided (timeouts, scopes, whether
a tool is idempotent, anything that the server does not say) stays as it is; what the server says is taken over.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from engine.errors import ValidationFailed
from engine.tools.mcp.answer import CONTENT_SCHEMA
from engine.tools.mcp.server import Listed
from engine.tools.registry import parse_entry

TIMEOUT = 60
_SAID = ("title", "description", "annotations", "input_schema", "output_schema", "endpoint")
_HEAD = "Tools of the MCP server {name}, as it lists them; `duework tool import-mcp {name} …` brings them up to date."


@dataclass(frozen=True, slots=True)
class Imported:
    """The file's new text; what is new in it (`+ address`), gone (`- `) and changed (`~ address: members`).

    `refused` are tools that cannot be called, each with the reason; they are not in the file.
    """

    text: str
    changes: tuple[str, ...]
    refused: tuple[str, ...]


def imported(
    name: str,
    options: Mapping[str, Any],
    allow_hosts: Sequence[str],
    listed: Sequence[Listed],
    text: str = "",
) -> Imported:
    """The catalog file of the server `name`, made from nothing or from its earlier `text`.

    Raises ValidationFailed for a text that is no such file.
    """
    document = _read(text, name) if text else _empty(name)
    server = _server(document, name)
    changes = _set(server, options)
    changes = [f"~ how the server is reached: {', '.join(changes)}"] if changes and text else []
    usable, refused = _usable(name, options, allow_hosts, listed)
    known = {_tool(entry): entry for entry in document["tools"]}
    for tool in usable:
        entry = known.pop(tool.name, None)
        made = entry_of(name, tool, server, allow_hosts)
        if entry is None:
            document["tools"].append(made)
            changes.append(f"+ {made['address']}")
        elif differing := _set(entry, {member: made[member] for member in _SAID if member in made}):
            changes.append(f"~ {entry['address']}: {', '.join(differing)}")
    for entry in known.values():
        document["tools"].remove(entry)
        changes.append(f"- {entry['address']}")
    return Imported(_written(document) if changes else text, tuple(changes), tuple(refused))


def entry_of(name: str, tool: Listed, server: Mapping[str, Any], allow_hosts: Sequence[str]) -> CommentedMap:
    """A catalog entry, as it is before a person has looked at it."""
    hints = tool.annotations
    entry = CommentedMap(address=f"{name}.{tool.name}", transport="mcp")
    entry["endpoint"] = CommentedMap(tool=tool.name, listed=tool.digest)
    entry["mcp"] = server
    if allow_hosts:
        entry["allow_hosts"] = list(allow_hosts)
    entry["title"] = tool.title[:200]
    entry["description"] = tool.description[:10_000]
    entry["idempotent"] = bool(hints.get("readOnlyHint") or hints.get("idempotentHint"))
    entry["timeout_seconds"] = TIMEOUT
    entry["scopes"] = [f"tool:{name}.{tool.name}"]
    if hints:
        entry["annotations"] = dict(hints)
    entry["input_schema"] = _plain(tool.input_schema)
    entry["output_schema"] = _plain(CONTENT_SCHEMA if tool.output_schema is None else tool.output_schema)
    return entry


def _usable(
    name: str, options: Mapping[str, Any], allow_hosts: Sequence[str], listed: Sequence[Listed]
) -> tuple[list[Listed], list[str]]:
    """The tools that a catalog can hold, and why the others are none."""
    usable, refused = [], []
    for tool in listed:
        try:
            parse_entry(_plain(entry_of(name, tool, options, allow_hosts)), "it")
            usable.append(tool)
        except ValidationFailed as error:
            refused.append(f"{name}.{tool.name}: {error.message.removeprefix('it: ')}")
    return usable, refused


def _set(members: CommentedMap, wanted: Mapping[str, Any]) -> list[str]:
    """Give `members` these values; which of them were others. Values that are equal keep their form."""
    differing = [key for key, value in wanted.items() if _plain(members.get(key)) != _plain(value)]
    for key in differing:
        members[key] = wanted[key]
    return [key for key in differing if key != "endpoint"]


def _read(text: str, name: str) -> CommentedMap:
    try:
        document: Any = _yaml().load(text)
    except YAMLError as error:
        raise ValidationFailed(f"the file of {name} is not YAML: {str(error).splitlines()[0]}") from error
    tools = document.get("tools") if isinstance(document, CommentedMap) else None
    if not isinstance(tools, list) or not all(isinstance(e, CommentedMap) and "address" in e for e in tools):
        raise ValidationFailed(f"the file of {name} is not one that an import wrote: {{tools: [entry, …]}}")
    assert isinstance(document, CommentedMap)
    return document


def _empty(name: str) -> CommentedMap:
    document = CommentedMap(tools=[])
    document.yaml_set_start_comment(_HEAD.format(name=name))
    return document


def _server(document: CommentedMap, name: str) -> CommentedMap:
    """The one mapping that all entries of the file refer to."""
    for known in (entry.get("mcp") for entry in document["tools"]):
        if isinstance(known, CommentedMap):
            return known
    server = CommentedMap()
    server.yaml_set_anchor("".join(c if c.isalnum() else "-" for c in name), always_dump=True)
    return server


def _tool(entry: Mapping[str, Any]) -> str:
    endpoint = entry.get("endpoint")
    return str(endpoint.get("tool") if isinstance(endpoint, Mapping) else endpoint)


def _written(document: CommentedMap) -> str:
    stream = io.StringIO()
    _yaml().dump(document, stream)
    return stream.getvalue()


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _plain(value: Any) -> Any:
    """A copy of JSON's own types: no comments, no aliases."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool) else _scalar(value)


def _scalar(value: Any) -> Any:
    kind = next((kind for kind in (str, int, float) if isinstance(value, kind)), str)
    return kind(value)
