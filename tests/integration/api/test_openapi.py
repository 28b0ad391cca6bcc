"""The description of the API, held against the API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
from jsonschema import Draft202012Validator
from starlette.applications import Starlette
from starlette.routing import Route

from api import openapi, problems, schemas
from api.routes import operations
from engine.store.agents import SCOPES

ROOT = Path(__file__).parents[3]


def references(node: Any) -> set[str]:
    """Every `$ref` below a node."""
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*(references(item) for item in node)) if isinstance(node, list) else set()


def target(document: Any, reference: str) -> Any:
    """What a local reference leads to."""
    node = document
    for token in reference.removeprefix("#/").split("/"):
        node = node[token.replace("~1", "/").replace("~0", "~")]
    return node


async def test_docs_are_the_routes(app: Starlette, api: httpx2.AsyncClient) -> None:
    """Every route of the router is described, and nothing else is; /mcp speaks another protocol."""
    document = (await api.get("/openapi.json")).json()
    served = {
        (path.path, method)
        for path in app.routes
        if isinstance(path, Route) and path.path != "/mcp"
        for method in (path.methods or set()) - {"HEAD"}
    }
    described = {(path, method.upper()) for path, each in document["paths"].items() for method in each}
    assert described == served == {(each.path, each.method) for each in operations()}


async def test_the_document_is_whole(api: httpx2.AsyncClient) -> None:
    """OpenAPI 3.1: every reference leads somewhere, every schema is one, every operation has a unique id."""
    document = (await api.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for reference in references(document):
        assert target(document, reference) is not None, reference
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema), name
    rows = [each for path in document["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in rows}) == len(rows)
    for each in rows:
        assert each["summary"]
        assert each["description"]
        assert each["responses"]


async def test_every_operation_is_explained() -> None:
    """Handlers have a docstring, scopes are known ones, and path parameters are those of the path."""
    for each in operations():
        assert each.handler.__doc__, each.label
        assert each.scope in (None, "", *SCOPES), each.label
        assert not each.keyed or each.method == "POST"


def test_every_example_fits_its_schema() -> None:
    """An example that its own schema refuses would be worse than none."""
    for name, schema in schemas.components().items():
        validator = Draft202012Validator(schemas.bundle(name))
        for example in schema.get("examples", ()):
            validator.validate(example)


async def test_the_page_shows_all_of_it(api: httpx2.AsyncClient) -> None:
    """Offline, without scripts, every operation, schema and error code in it; problem types lead to it."""
    page = (await api.get("/docs", headers={"Accept": "text/html,*/*"})).text
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["']?https?://""", page)
    for each in operations():
        assert f">{each.path}<" in page
    for name in schemas.components():
        assert f'id="schema-{name}"' in page
    for error in problems.catalogue():
        assert f'id="{error.code}"' in page
    kind = (await api.get("/nowhere")).json()["type"]
    assert f'id="{kind.removeprefix("/docs#")}"' in page


def test_the_reference_is_written_out_of_the_operations() -> None:
    """Every operation and every error code has its lines; the same text each time."""
    text = openapi.reference_markdown()
    assert text == openapi.reference_markdown()
    for each in operations():
        assert f"### `{each.label}`" in text
    for error in problems.catalogue():
        assert f"| `{error.code}` |" in text


async def test_published_schemas_are_served(api: httpx2.AsyncClient) -> None:
    """For editors, by file name; no other file."""
    schema = (await api.get("/schemas/pipeline-v1.json")).json()
    assert schema["title"] == "duework pipeline, format v1"
    assert (await api.get("/schemas/tool-v1")).status_code == 200
    assert (await api.get("/schemas/passwd")).status_code == 404
