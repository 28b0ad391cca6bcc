"""Any accepted document as the text of a format v1 file."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from engine.pipeline.documents import Document, is_plain_text
from engine.pipeline.parse import parse_definition


def convert(document: Document | Mapping[str, Any]) -> str:
    """The definition of a v1 or seed document as YAML: known order, short and without comments.

    Reading it gives an equal definition. Raises ValidationFailed where the document is not valid.
    """
    return dump_yaml(parse_definition(document).document)


def dump_yaml(value: Any) -> str:
    """A JSON value as YAML 1.2 that `load_documents` reads back."""
    writer = YAML(typ="rt", pure=True)
    writer.width = 110
    writer.allow_unicode = True
    writer.indent(mapping=2, sequence=4, offset=2)
    text = StringIO()
    writer.dump(_dressed(value), text)
    return text.getvalue()


def _dressed(value: Any) -> Any:
    """`value` with the quotes that our reader needs, which are not always those that the writer would set."""
    if isinstance(value, Mapping):
        return CommentedMap((_dressed(key), _dressed(item)) for key, item in value.items())
    if isinstance(value, list):
        return [_dressed(item) for item in value]
    return value if not isinstance(value, str) or is_plain_text(value) else DoubleQuotedScalarString(value)
