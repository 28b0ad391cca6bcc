"""What is legal in a definition and yet cannot work, or seldom means what it says.

Most findings are warnings; `is_error` tells the few that no run could survive. A catalog is handed in: the
room knows no tools. `tools` holds steps against their catalog entries, `names` looks at who reads what and when,
`policies` at limits that contradict one another, `texts` at expressions and literals.
"""

from __future__ import annotations

from engine.errors import Problem
from engine.pipeline.availability import unavailable
from engine.pipeline.definition import Definition
from engine.pipeline.documents import Document
from engine.pipeline.lint.names import lint_names
from engine.pipeline.lint.policies import lint_policies
from engine.pipeline.lint.texts import lint_texts
from engine.pipeline.lint.tools import lint_tools
from engine.pipeline.lint.walk import Catalog
from engine.pipeline.reading import Reading
from engine.pipeline.seed import place_in_seed

__all__ = ["is_error", "lint"]


def is_error(problem: Problem) -> bool:
    """Whether a finding of `lint` must be mended before the definition can be used."""
    return problem.code in (
        *("unknown_tool", "unknown_step", "unknown_root", "not_available"),
        "secret_not_allowed",
    )


def lint(definition: Definition, catalog: Catalog, document: Document | None = None) -> list[Problem]:
    """Findings about `definition`, in the order of the document; lines and columns if it is handed in too."""
    place_of = place_in_seed if definition.source_format == "seed" else str
    reading = Reading(document or Document(definition.document), definition.document, place_of)
    for pointer in unavailable(definition):
        name = pointer.rsplit("/", 1)[-1]
        reading.report("not_available", f"this version does not execute {name}; take it out", pointer)
    lint_policies(reading, definition)
    lint_tools(reading, definition, catalog)
    lint_names(reading, definition)
    lint_texts(reading, definition, catalog)
    return sorted(dict.fromkeys(reading.problems), key=lambda each: (each.line or 0, each.column or 0))
