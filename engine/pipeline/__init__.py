"""Pipelines: the definition of a task, from text to compiled steps.

    text ── load_documents ──> Document ── parse_definition ──> Definition ── lint ──> warnings
                                  └─────────────────── examine ───────────────────────────┘

`documents` reads YAML and JSON with places, `seed` rewrites the seed format, `shape` holds a document against
the published schema, `mending` takes out what it refuses, so that `parse` and `steps` can read what the rest
means; `lint` warns, and `examination` gathers all of it in one list. Pure throughout: no clock, no
catalog but the one it is handed.
"""

from engine.pipeline.convert import convert, dump_yaml
from engine.pipeline.definition import Definition, ScheduleSpec, Step
from engine.pipeline.documents import Document, load_documents
from engine.pipeline.examination import Examined, examine
from engine.pipeline.lint import is_error, lint
from engine.pipeline.parse import parse_definition

__all__ = [
    "Definition",
    "Document",
    "Examined",
    "ScheduleSpec",
    "Step",
    "convert",
    "dump_yaml",
    "examine",
    "is_error",
    "lint",
    "load_documents",
    "parse_definition",
]
