"""Catalog files, checked offline: what `duework tool lint` reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from engine.errors import Problem, ValidationFailed
from engine.settings import Settings
from engine.tools.entry import ToolEntry
from engine.tools.registry import named, read_entries
from engine.tools.toolbox import open_toolbox
from ops.cli.documents import Checked


async def check(paths: Sequence[Path], settings: Settings) -> list[Checked]:
    """Each file with its problems; what the files say twice between them belongs to the later one.

    Errors are what keeps a catalog from being loaded, warnings what keeps its tools from being called on this host,
    what MCP servers say otherwise by now, and examples that do not fit.
    """
    found = [_file(path) for path in paths]
    entries = [entry for _, own in found for entry in own]
    clashes: list[Problem] = []
    named(entries, clashes)
    checked = []
    async with open_toolbox(settings, None) as toolbox:
        for result, own in found:
            here = [*await toolbox.faults(own), *await toolbox.drift(own)]
            errors = result.errors + _of(result.source, clashes)
            checked.append(replace(result, errors=errors, warnings=(*here, *_examples(own))))
    return checked


def _file(path: Path) -> tuple[Checked, list[ToolEntry]]:
    errors: list[Problem] = []
    entries: list[ToolEntry] = []
    for found in read_entries(path):
        if isinstance(found, ValidationFailed):
            errors += [replace(one, detail=_bare(one.detail, path.name)) for one in found.errors]
        else:
            entries.append(found)
    return Checked(str(path), None, None, tuple(errors)), entries


def _of(source: str, clashes: Iterable[Problem]) -> tuple[Problem, ...]:
    name = Path(source).name
    mine = (one for one in clashes if one.detail.startswith(f"{name}: "))
    return tuple(replace(one, detail=_bare(one.detail, name)) for one in mine)


def _bare(detail: str, name: str) -> str:
    """The detail without the file's name and place, which stand before it already."""
    head, _, rest = detail.partition(": ")
    return rest if head.partition(":")[0] == name else detail


def _examples(entries: Iterable[ToolEntry]) -> list[Problem]:
    """Examples in the schemas that the schemas themselves refuse."""
    return [
        Problem("example", f"{entry.name}: example {number} of its {member} does not fit: {problem.detail}")
        for entry in entries
        for member, schema, contract in (
            ("input_schema", entry.input_schema, entry.input),
            ("output_schema", entry.output_schema, entry.output),
        )
        for number, example in enumerate(schema.get("examples", ()))
        for problem in contract.check(example, show_keys=True)[:1]
    ]
