"""The tool catalog: what may be called, with which schemas, by whom.

Entries come from the package's `catalogs/tools/*.yaml` and from the folder that `DUEWORK_CATALOG` names
(`*.yaml`, or `*.json` as the seeds write it). A catalog with any fault is refused whole, with every fault
named, so that no worker starts half-way.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path
from typing import Any

from engine.contract import Contract, compile_schema
from engine.durations import parse_duration
from engine.errors import NotFound, Problem, ValidationFailed
from engine.limits import Breaker, Rate
from engine.pipeline import Document, load_documents
from engine.reflex import parse_policy
from engine.retry import RetryPolicy
from engine.settings import Settings
from engine.store.agents import unknown_scopes
from engine.tools.entry import ToolEntry
from engine.tools.transports import FAULTS
from engine.tools.versions import order

_ENDINGS = (".yaml", ".yml", ".json")
TRANSPORTS = ("builtin", "http", "mcp", "python", "command")
_RETRIES = 3  # attempts when `retry` is there and does not say


@dataclass(frozen=True, slots=True)
class Catalog:
    """All tools by every name that `uses` may call them: `address` is the newest version, `address@2` that one."""

    entries: Mapping[str, ToolEntry]

    def get(self, uses: str) -> ToolEntry:
        """The entry of an address or alias, with `@version` that one. Raises NotFound that names the nearest."""
        if uses in self.entries:
            return self.entries[uses]
        address, _, version = uses.partition("@")
        if version and address in self.entries:
            raise NotFound(
                f"there is no version {version!r} of the tool {address!r}; {self._versions(address)}"
            )
        near = difflib.get_close_matches(uses, self.entries, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; `duework tool list` shows those there are"
        raise NotFound(f"there is no tool {uses!r} in the catalog{hint}")

    def listed(self) -> list[ToolEntry]:
        """Every entry once, by address, the newest version first."""
        once = sorted(
            {id(entry): entry for entry in self.entries.values()}.values(),
            key=lambda entry: order(entry.version),
            reverse=True,
        )
        return sorted(once, key=lambda entry: entry.address)

    def _versions(self, address: str) -> str:
        newest = self.entries[address]
        known = [e.version for e in self.listed() if e.address == newest.address and e.version is not None]
        return f"there are {', '.join(known)}" if known else "its entry has no version: take @… out"


def load_catalog(settings: Settings) -> Catalog:
    """Read and check every entry. Raises ValidationFailed with all faults of all files."""
    problems: list[Problem] = []
    entries: list[ToolEntry] = []
    for found in chain(_packaged(), *map(read_entries, _files(settings.catalog))):
        if isinstance(found, ValidationFailed):
            problems.extend(found.errors)
        else:
            entries.append(found)
    by_name = named(entries, problems)
    if problems:
        raise ValidationFailed(
            "the tool catalog has faults: " + "; ".join(problem.detail for problem in problems),
            errors=problems,
        )
    return Catalog(by_name)


def named(entries: Iterable[ToolEntry], problems: list[Problem]) -> dict[str, ToolEntry]:
    """The entries by every name they answer to; a name that two of them claim is a problem."""
    named: dict[str, ToolEntry] = {}
    for entry in sorted(entries, key=lambda one: order(one.version)):  # stable: files keep their order
        for name in (entry.address, *entry.aliases):
            exact = name if entry.version is None else f"{name}@{entry.version}"
            known = named.get(exact)
            if known is None:
                known = _stranger(named.get(name), entry)
            if known is not None:
                text = f"{entry.source}: {exact} is already defined in {known.source}"
                problems.append(Problem("duplicate_tool", text))
            named[exact] = named[name] = entry
    return named


def _stranger(known: ToolEntry | None, entry: ToolEntry) -> ToolEntry | None:
    """Who has the name already: another tool, or one without a version, which nobody could name any more."""
    if known is None or (known.address == entry.address and known.version is not None):
        return None
    return known


def parse_entry(members: Mapping[str, Any], source: str) -> ToolEntry:
    """Check one entry against `catalogs/schemas/tool-v1.json` and its transport; compile its schemas."""
    if not isinstance(members, Mapping):
        raise _located(
            [Problem("invalid_tool", "an entry is a mapping of address, transport, …")], {}, source
        )
    if problems := _entry_contract().check(members, show_keys=True):
        raise _located(problems, members, source)
    compiled, problems = _compiled(members)
    if problems := [*problems, *_misplaced(members), *_ungrantable(members)]:
        raise _located(problems, members, source)
    entry = _entry(members, compiled, source)
    if problems := list(FAULTS.get(entry.transport, _none)(entry)):
        raise _located(problems, members, source)
    return entry


def _entry(members: Mapping[str, Any], compiled: Mapping[str, Any], source: str) -> ToolEntry:
    version = members.get("version")
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
        reflex=compiled["reflex"],
        annotations=members.get("annotations", {}),
        allow_hosts=tuple(members.get("allow_hosts", ())),
        aliases=tuple(members.get("aliases", ())),
        source=source,
        input=compiled["input_schema"],
        output=compiled["output_schema"],
        version=None if version is None else str(version),
        retry=compiled.get("retry"),
        rate=compiled.get("rate"),
        concurrency=members.get("concurrency"),
        breaker=compiled.get("breaker"),
        secrets=tuple(members.get("secrets", ())),
        options=members.get(members["transport"], {}),
    )


def _compiled(members: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The contracts, policies and limits of an entry by member, and what is wrong with them."""
    made: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, make in _COMPILED.items():
        if name not in members and name != "reflex":
            continue
        try:
            made[name] = make(members.get(name, {}))
        except ValidationFailed as error:
            problems += [replace(one, pointer=f"/{name}{one.pointer}") for one in error.errors]
    return made, problems


def _lengths(members: Mapping[str, Any], *names: str) -> dict[str, timedelta]:
    """The durations among the members. Raises ValidationFailed that points at the one at fault."""
    found: dict[str, timedelta] = {}
    for name in (name for name in names if name in members):
        try:
            found[name] = parse_duration(members[name])
        except ValidationFailed as error:
            raise ValidationFailed(
                error.message, errors=[replace(one, pointer=f"/{name}") for one in error.errors]
            ) from error
    return found


def _retry(members: Mapping[str, Any]) -> RetryPolicy:
    lengths: dict[str, Any] = _lengths(members, "delay", "max_delay")
    given = {name: members[name] for name in ("backoff",) if name in members}
    attempts = members.get("max_attempts", _RETRIES)
    return RetryPolicy(max_attempts=attempts, on=frozenset(members.get("on", ())), **given, **lengths)


def _rate(members: Mapping[str, Any]) -> Rate:
    per = _lengths(members, "per")["per"]
    if not per:
        detail = "per is longer than nothing, like 1s or 1m"
        raise ValidationFailed(detail, errors=[Problem("invalid_rate", detail, "/per")])
    return Rate(members["limit"], per, members.get("burst", members["limit"]))


def _breaker(members: Mapping[str, Any]) -> Breaker:
    lengths: dict[str, Any] = _lengths(members, "open_for")
    return Breaker(
        **{name: members[name] for name in ("failures", "successes") if name in members}, **lengths
    )


_COMPILED: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "input_schema": compile_schema,
    "output_schema": compile_schema,
    "reflex": parse_policy,
    "retry": _retry,
    "rate": _rate,
    "breaker": _breaker,
}


def _none(_entry: ToolEntry) -> Iterable[Problem]:
    return ()


def _located(problems: Iterable[Problem], members: Mapping[str, Any], source: str) -> ValidationFailed:
    """The same problems, each saying in which file and entry it is."""
    name = members.get("address", "entry")
    located = [
        Problem(one.code, f"{source}: {name}: {one.detail} (at {one.pointer or '/'})", one.pointer)
        for one in problems
    ]
    return ValidationFailed(located[0].detail, errors=located)


def _misplaced(members: Mapping[str, Any]) -> Iterator[Problem]:
    """Options of a transport that is not the entry's own would never be read."""
    for name in TRANSPORTS:
        if name in members and name != members["transport"]:
            text = f"{name} is for tools of transport {name}; this one is of transport {members['transport']}"
            yield Problem("misplaced", text, f"/{name}")


def _ungrantable(members: Mapping[str, Any]) -> Iterator[Problem]:
    """A scope that no agent can be given would keep everybody but admins out."""
    scopes = members.get("scopes", ())
    for scope in [*unknown_scopes(scopes), *(each for each in scopes if "*" in each)]:
        way = "write tool:<address>, or words with dots like my-service.read"
        text = f"{scope!r} is no scope that an agent can hold: {way}"
        yield Problem("unknown_scope", text, f"/scopes/{scopes.index(scope)}")


@cache
def _entry_contract() -> Contract:
    text = resources.files("catalogs").joinpath("schemas/tool-v1.json").read_text(encoding="utf-8")
    return compile_schema(json.loads(text))


@cache
def _packaged() -> tuple[ToolEntry | ValidationFailed, ...]:
    """The package's own entries, which are read once: they stay as they are while a process lives."""
    files = _sorted(resources.files("catalogs").joinpath("tools").iterdir())
    return tuple(found for file in files for found in read_entries(file))


def _files(folder: Path | None) -> list[Path | Traversable]:
    """The files of the folder that was named."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise ValidationFailed(f"the catalog folder {folder} does not exist; see DUEWORK_CATALOG")
    return _sorted(folder.iterdir())


def _sorted(files: Iterable[Path | Traversable]) -> list[Path | Traversable]:
    return sorted((one for one in files if one.name.endswith(_ENDINGS)), key=lambda one: one.name)


def read_entries(file: Path | Traversable) -> Iterator[ToolEntry | ValidationFailed]:
    """Entries and faults of one file, whose documents are one mapping, a list of them, or {"tools": [...]}.

    The faults say line and column.
    """
    try:
        documents = load_documents(file.read_text(encoding="utf-8"), file.name)
    except ValidationFailed as error:  # its message has the place in the file
        yield ValidationFailed(str(error), errors=[replace(one, detail=str(error)) for one in error.errors])
        return
    for document in documents:
        for pointer, members in _members(document.value):
            try:
                yield parse_entry(members, file.name)
            except ValidationFailed as error:
                yield ValidationFailed(
                    error.message, errors=[_placed(one, document, pointer) for one in error.errors]
                )


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Each entry of a document with the pointer to it."""
    inside = isinstance(value, dict) and "tools" in value
    tools = value["tools"] if inside else value
    if not isinstance(tools, list):
        yield "/tools" if inside else "", tools
        return
    for number, members in enumerate(tools):
        yield f"{'/tools' if inside else ''}/{number}", members


def _placed(problem: Problem, document: Document, pointer: str) -> Problem:
    place = document.position(pointer + problem.pointer, key=problem.code in ("unknown_key", "not_available"))
    line, column = place or (None, None)
    return replace(problem, pointer=pointer + problem.pointer, line=line, column=column)
