"""What describes the API itself: /, /docs, /openapi.json and the published schemas. No credentials needed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api import pages
from api.operations import OpenHandler, Operation, Resources
from api.rendering import to_json
from engine.errors import NotFound
from engine.pipeline.shape import schema

PUBLISHED = ("pipeline-v1", "tool-v1", "seed-task")
"""The schemas of files that people write, for their editors."""
_FRAME = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


async def root(request: Request) -> Response:
    """What this is, and where to go from here."""
    below = request.scope.get("root_path", "")
    links = ("docs", "health", "ready", "metrics")
    body = {"service": "duework", "version": _resources(request).version}
    body |= {name: f"{below}/{name}" for name in links} | {"openapi": f"{below}/openapi.json"}
    return Response(to_json(body), media_type="application/json")


async def description(request: Request) -> Response:
    """The OpenAPI 3.1 document."""
    return Response(to_json(_resources(request).described), media_type="application/json")


async def docs(request: Request) -> Response:
    """The reference as one page that needs nothing from elsewhere."""
    return Response(pages.reference(_resources(request).described), 200, _FRAME, "text/html")


async def published(request: Request) -> Response:
    """A published schema, for editors: pipeline-v1, tool-v1, seed-task."""
    name = request.path_params["name"].removesuffix(".json")
    if name not in PUBLISHED:
        raise NotFound(f"there is no such schema; there are {', '.join(PUBLISHED)}")
    return Response(to_json(schema(name)), media_type="application/json")


def _resources(request: Request) -> Resources:
    found: Resources = request.app.state.resources
    return found


def _open(path: str, handler: OpenHandler, summary: str, answer: str, media: str) -> Operation:
    errors = (404,) if "{" in path else ()
    return Operation(
        "GET", path, handler, "about", summary, {200: answer}, scope=None, media=media, errors=errors
    )


OPERATIONS = (
    _open("/", root, "What this is", "Service", "application/json"),
    _open("/docs", docs, "This reference as a page", "Text", "text/html"),
    _open("/openapi.json", description, "The OpenAPI document", "Json", "application/json"),
    _open("/schemas/{name}", published, "A schema for editors", "Json", "application/json"),
)
