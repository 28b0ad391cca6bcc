"""The API described: OpenAPI 3.1 and the reference page, both written out of the operations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from api import problems, schemas
from api.operations import Operation
from api.routes import operations
from api.schemas.words import ref

JSON = "application/json"
_HEADERS: Mapping[str, tuple[str, str]] = {
    "If-Match": ("string", "The ETag of the task as it was read; another version since then is a 412."),
    "If-None-Match": ("string", "ETags that the client has; one that still holds is a 304."),
    "Prefer": ("string", "`wait=30` waits for the end of the run, `respond-async` answers 202 (RFC 7240)."),
    "Idempotency-Key": ("string", "Same key and body: the first answer again, for 24 hours."),
    "X-Request-ID": ("string", "The key of this request in logs, audit and answers."),
}
_ANSWER_HEADERS: Mapping[str, str] = {
    "X-Request-ID": "The key of this request in logs, audit and answers.",
    "Location": "Where what was made is found.",
    "ETag": "The version of the task, for If-Match and If-None-Match.",
    "Preference-Applied": "The preference that was followed (RFC 7240).",
    "Idempotency-Replayed": "`true` on an answer that was given before.",
}


def document(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of this server."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations():
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "duework",
            "version": version,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
            "description": "A Postgres-native job scheduler: define tasks, run them, read their history.",
        },
        "servers": [{"url": "/v1"}, {"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in operations())],
        "paths": paths,
        "components": {
            "schemas": dict(schemas.components()),
            "responses": {str(status): _problem(status) for status in sorted(_statuses())},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def reference_markdown() -> str:
    """`docs/reference/api.md`: every operation with what it needs and answers, and every error code."""
    lines = [
        "# REST API",
        "",
        "Generated from the operations in `api/routes/`; `/openapi.json` says the same to machines. Every path answers",
        "also below `/v1`, and with a trailing slash. Bodies are JSON or YAML. Errors are `application/problem+json`.",
        "`POST /mcp` speaks [another protocol](../how-to/serve-agents-over-mcp.md) and is in neither.",
        "",
    ]
    for tag, rows in _by_tag(operations()).items():
        lines += [f"## {tag.capitalize()}", ""]
        for row in rows:
            lines += _operation_lines(row)
    return "\n".join([*lines, *_error_lines(), ""])


def statuses(operation: Operation) -> list[int]:
    """The error statuses that an operation may answer."""
    found = {406, 500, *operation.errors}
    if not operation.open:
        found |= {400, 401, 403, 503}
    if operation.body:
        found |= {413, 415}
    if operation.keyed:
        found |= {409, 422}
    return sorted(found)


def _operation(operation: Operation) -> dict[str, Any]:
    words = (operation.handler.__doc__ or "").strip()
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"{words}{_needs(operation)}",
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation),
            *_header_parameters(operation),
        ],
        "responses": _responses(operation),
        "security": [] if operation.open else [{"bearer": []}],
    }
    if operation.body:
        kinds = (JSON, "application/yaml")
        content = {kind: {"schema": ref(operation.body)} for kind in kinds}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    return described


def _operation_id(operation: Operation) -> str:
    """Unique and stable: method and path in words."""
    words = re.sub(r"[^A-Za-z0-9]+", "_", operation.path).strip("_") or "root"
    return f"{operation.method.lower()}_{words}"


def _needs(operation: Operation) -> str:
    if operation.open:
        return " Needs no credentials."
    return f" Needs the scope `{operation.scope}`." if operation.scope else " Needs any agent's token."


def _path_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", operation.path):
        schema = {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for each in operation.query:
        yield {"name": each.name, "in": "query", "description": each.text, "schema": dict(each.schema)}


def _header_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in (*operation.headers, *(["Idempotency-Key"] if operation.keyed else []), "X-Request-ID"):
        kind, text = _HEADERS[name]
        yield {"name": name, "in": "header", "description": text, "schema": {"type": kind}}


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, name in operation.answers.items():
        answer: dict[str, Any] = {
            "description": _described(status),
            "headers": _answer_headers(operation, status),
        }
        if name is not None:
            answer["content"] = {operation.media: {"schema": ref(name)}}
        found[str(status)] = answer
    for status in statuses(operation):
        found.setdefault(str(status), {"$ref": f"#/components/responses/{status}"})
    return found


def _answer_headers(operation: Operation, status: int) -> dict[str, Any]:
    names = ["X-Request-ID"]
    if status == 201 or "Accepted" in str(operation.answers.get(status)):
        names.append("Location")
    if operation.answers.get(status) == "Task" and operation.method in ("GET", "POST", "PATCH", "PUT"):
        names.append("ETag")
    if "Prefer" in operation.headers:
        names.append("Preference-Applied")
    if operation.keyed:
        names.append("Idempotency-Replayed")
    return {name: {"description": _ANSWER_HEADERS[name], "schema": {"type": "string"}} for name in names}


def _described(status: int) -> str:
    words = {200: "Done", 201: "Made", 202: "Accepted", 204: "Done", 304: "Unchanged", 503: "Not ready"}
    return words[status]


def _problem(status: int) -> dict[str, Any]:
    codes = [
        f"`{each.code}`: {problems.meaning(each)}" for each in problems.catalogue() if each.status == status
    ]
    content = {problems.MEDIA: {"schema": ref("Problem")}}
    return {"description": " ".join(codes), "content": content}


def _statuses() -> set[int]:
    return {status for operation in operations() for status in statuses(operation)}


def _by_tag(rows: Iterable[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {}
    for row in rows:
        found.setdefault(row.tag, []).append(row)
    return found


def _operation_lines(operation: Operation) -> Sequence[str]:
    answers = ", ".join(f"{status} {name or ''}".strip() for status, name in operation.answers.items())
    errors = ", ".join(map(str, statuses(operation)))
    words = (operation.handler.__doc__ or "").strip()
    lines = [f"### `{operation.label}`", "", f"{words}{_needs(operation)}", ""]
    if operation.body:
        needed = "" if operation.body_required else ", may be left out"
        lines.append(f"- body: {operation.body}{needed}")
    lines += [f"- `?{each.name}=`: {each.text}" for each in operation.query]
    headers = (*operation.headers, *(["Idempotency-Key"] if operation.keyed else []))
    lines += [f"- `{name}`: {_HEADERS[name][1]}" for name in headers]
    return [*lines, f"- answers: {answers}", f"- errors: {errors}", ""]


def _error_lines() -> list[str]:
    lines = ["## Errors", "", "| status | code | again? | meaning |", "|---|---|---|---|"]
    for status, code, retryable, meaning in problems.rows():
        lines.append(f"| {status} | `{code}` | {'yes' if retryable else 'no'} | {meaning} |")
    return lines
