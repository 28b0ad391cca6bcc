"""Request bodies: bytes to checked JSON values, from JSON or YAML, with limits that hold before the memory does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime

from starlette.requests import Request

from api.problems import TooLarge, UnsupportedMedia
from engine.contract import Contract
from engine.errors import Malformed, Problem, ValidationFailed
from engine.pipeline import Document, load_documents
from engine.pipeline.shape import unstorable
from engine.schedule.moments import in_years

JSON = ("application/json", "application/merge-patch+json", "application/cloudevents+json")
YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_QUICK = 2_000
"""Characters up to which a text is parsed on the event loop; more goes to a thread."""


async def read(request: Request, limit: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to be longer than `limit` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


async def documents(data: bytes, media_type: str | None, *, kept: bool = True) -> list[Document]:
    """The documents of a body; [] for an empty one. Raises UnsupportedMedia and Malformed.

    JSON of which nothing is `kept` may be of any length; nobody is told line and column of what is wrong in it.
    """
    kind = (media_type or "application/json").partition(";")[0].strip().lower()
    if not data.strip():
        return []
    if kind not in (*JSON, *YAML):
        raise UnsupportedMedia("send application/json or application/yaml; the Content-Type says otherwise")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the body is not UTF-8"
        raise Malformed(detail, errors=[Problem("not_utf8", detail)]) from None
    source = "body.yaml" if kind in YAML else "body.json"
    parse = load_documents if kept or kind in YAML else _plain
    if len(text) <= _QUICK:
        return parse(text, source)
    return await asyncio.to_thread(parse, text, source)


def _plain(text: str, source: str) -> list[Document]:
    try:
        return [Document(json.loads(text), source)]
    except (ValueError, RecursionError):
        detail = "the body is not JSON, or too deep"
        raise Malformed(detail, errors=[Problem("json", detail)]) from None


def value(found: Sequence[Document], contract: Contract, *, required: bool, kept: bool = True) -> object:
    """The one checked value of a body, {} when there is none. Raises Malformed and ValidationFailed."""
    if len(found) > 1:
        raise Malformed("the body holds several documents; this path takes one")
    if not found:
        if required:
            raise Malformed("a body is needed; /docs shows what it looks like")
        return {}
    body = found[0].value
    problems = (kept and unstorable(body)) or contract.check(body)
    if problems:
        raise invalid("the body is not valid", [_located(problem, found[0]) for problem in problems])
    return contract.with_defaults(body)


def moment(text: str, pointer: str) -> datetime:
    """The instant that RFC 3339 text names. Raises ValidationFailed for leap seconds and years out of reach."""
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        problem = Problem("wrong_form", "is no instant of the calendar", pointer)
        raise invalid("the body is not valid", [problem]) from None
    in_years(found, pointer)
    return found


def invalid(what: str, problems: Sequence[Problem]) -> ValidationFailed:
    """One error for all problems, the first of them in its message."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    where = f"{first.pointer}: " if first.pointer else ""
    return ValidationFailed(f"{what}: {where}{first.detail}{more}", errors=problems)


def _located(problem: Problem, document: Document) -> Problem:
    line, column = document.position(problem.pointer, key=problem.code == "unknown_key") or (None, None)
    return Problem(problem.code, problem.detail, problem.pointer, line, column)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit} bytes (DUEWORK_MAX_BODY_BYTES, or the path's own limit)")
