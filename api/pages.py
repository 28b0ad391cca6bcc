"""The reference page: the OpenAPI document as HTML, with nothing fetched from anywhere and no script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from api import problems


def reference(described: Mapping[str, Any]) -> str:
    """The whole page as text, from the OpenAPI document."""
    text = resources.files("api").joinpath("templates", "docs.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["pretty"] = _pretty
    rows = [
        {"method": method, "path": path, **operation}
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    tags = [each["name"] for each in described["tags"]]
    return environment.from_string(text).render(
        version=described["info"]["version"],
        groups=[(tag, [row for row in rows if tag in row["tags"]]) for tag in tags],
        schemas=described["components"]["schemas"],
        errors=problems.rows(),
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
