"""Pipelines: the definition of a task, from text to compiled steps.

    text ── load_documents ──> Document ── parse_definition ──> Definition ── lint ──> warnings

`documents` reads YAML and JSON with places, `seed` rewrites the seed format, `shape` holds a document against
the published schema, `parse` and `steps` read what it means, `lint` warns. Pure throughout: no clock, no
catalog but the one it is handed.
"""

from engine.pipeline.convert import convert, dump_yaml
from engine.pipeline.definition import Definition, ScheduleSpec, Step
from engine.pipeline.documents import Document, load_documents
from engine.pipeline.lint import is_error, lint
from engine.pipeline.parse import parse_definition

__all__ = [
    "Definition",
    "Document",
    "ScheduleSpec",
    "Step",
    "convert",
    "dump_yaml",
    "is_error",
    "lint",
    "load_documents",
    "parse_definition",
]
