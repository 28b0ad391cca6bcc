"""The tool catalog: what may be called, with which schemas, by whom.

Entries come from the package's `catalogs/tools/*.yaml` and from the folder that `DUEWORK_CATALOG` names
(`*.yaml`, or `*.json` as the seeds write it). A catalog with any fault is refused whole, with every fault
named, so that no worker starts half-way.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from importlib import resources
from importlib.abc import Traversable
from pathlib import Path
from typing import Any

from engine.contract import Contract, compile_schema
from engine.errors import NotFound, Problem, ValidationFailed
from engine.pipeline import load_documents
from engine.reflex import parse_policy
from engine.settings import Settings


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """One catalog entry, its schemas compiled. `reflex` is a policy layer as `parse_policy` returns it."""

    address: str
    transport: str
    endpoint: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    timeout: timedelta
    scopes: tuple[str, ...]
    idempotent: bool
    reflex: dict[str, Any]
    annotations: dict[str, Any]
    allow_hosts: tuple[str, ...]
    aliases: tuple[str, ...]
    source: str
    input: Contract = field(compare=False, repr=False)
    output: Contract = field(compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The public form: what /tools and `duework tool get` show."""
        return {
            "address": self.address,
            "transport": self.transport,
            "title": self.title,
            "description": self.description,
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
            "timeout_seconds": self.timeout.total_seconds(),
            "scopes": list(self.scopes),
            "idempotent": self.idempotent,
            "reflex": self.reflex,
            "annotations": self.annotations,
            "aliases": list(self.aliases),
        }


@dataclass(frozen=True, slots=True)
class Catalog:
    """All tools by address; aliases answer too."""

    entries: Mapping[str, ToolEntry]

    def get(self, address: str) -> ToolEntry:
        """The entry at an address or alias. Raises NotFound that names the nearest one."""
        if address in self.entries:
            return self.entries[address]
        near = difflib.get_close_matches(address, self.entries, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; `duework tool list` shows those there are"
        raise NotFound(f"there is no tool {address!r} in the catalog{hint}")

    def listed(self) -> list[ToolEntry]:
        """Every entry once, by address."""
        return sorted({id(e): e for e in self.entries.values()}.values(), key=lambda entry: entry.address)


def load_catalog(settings: Settings) -> Catalog:
    """Read and check every entry. Raises ValidationFailed with all faults of all files."""
    problems: list[Problem] = []
    entries: dict[str, ToolEntry] = {}
    for source, members in _sources(settings.catalog):
        try:
            entry = parse_entry(members, source)
        except ValidationFailed as error:
            problems.extend(error.errors or [Problem("invalid_tool", str(error))])
            continue
        for address in (entry.address, *entry.aliases):
            if address in entries:
                text = f"{source}: {address} is already defined in {entries[address].source}"
                problems.append(Problem("duplicate_tool", text))
            entries[address] = entry
    if problems:
        raise ValidationFailed(
            "the tool catalog has faults: " + "; ".join(problem.detail for problem in problems),
            errors=problems,
        )
    return Catalog(entries)


def parse_entry(members: Mapping[str, Any], source: str) -> ToolEntry:
    """Check one entry against `catalogs/schemas/tool-v1.json` and compile its schemas."""
    problems = [*_entry_contract().check(members), *_unavailable(members)]
    if problems:
        name = members.get("address", "entry")
        located = [
            Problem(p.code, f"{source}: {name}: {p.detail} (at {p.pointer or '/'})", p.pointer)
            for p in problems
        ]
        raise ValidationFailed(located[0].detail, errors=located)
    return ToolEntry(
        address=members["address"],
        transport=members["transport"],
        endpoint=members.get("endpoint", ""),
        title=members.get("title", members["address"]),
        description=members.get("description", ""),
        input_schema=members["input_schema"],
        output_schema=members["output_schema"],
        timeout=timedelta(seconds=members.get("timeout_seconds", 30)),
        scopes=tuple(members.get("scopes", ())),
        idempotent=members.get("idempotent", False),
        reflex=parse_policy(members.get("reflex", {}), "/reflex"),
        annotations=members.get("annotations", {}),
        allow_hosts=tuple(members.get("allow_hosts", ())),
        aliases=tuple(members.get("aliases", ())),
        source=source,
        input=compile_schema(members["input_schema"]),
        output=compile_schema(members["output_schema"]),
    )


def _unavailable(members: Mapping[str, Any]) -> Iterator[Problem]:
    """What the format knows and this version does not do yet: refused, never silently ignored."""
    if members.get("transport") in ("mcp", "python", "command"):
        yield Problem("not_available", f"transport {members['transport']} is not available yet", "/transport")
    for name in ("version", "retry", "rate", "concurrency", "breaker", "secrets", "http"):
        if name in members:
            yield Problem("not_available", f"{name} is not available yet; take it out", f"/{name}")


@cache
def _entry_contract() -> Contract:
    text = resources.files("catalogs").joinpath("schemas/tool-v1.json").read_text(encoding="utf-8")
    return compile_schema(json.loads(text))


def _sources(folder: Path | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from _read(resources.files("catalogs").joinpath("tools").iterdir())
    if folder is None:
        return
    if not folder.is_dir():
        raise ValidationFailed(f"the catalog folder {folder} does not exist; see DUEWORK_CATALOG")
    yield from _read(folder.iterdir())


def _read(files: Iterable[Path | Traversable]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Entries of every YAML or JSON file: one mapping, a list of them, or {"tools": [...]}."""
    for file in sorted(files, key=lambda one: one.name):
        if not file.name.endswith((".yaml", ".yml", ".json")):
            continue
        for document in load_documents(file.read_text(encoding="utf-8"), file.name):
            value = document.value
            entries = value.get("tools", [value]) if isinstance(value, dict) else value
            yield from ((file.name, entry) for entry in entries)
