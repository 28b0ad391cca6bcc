"""Problem details (RFC 9457): every error as the same JSON object, the seeds' members included.

Errors that only HTTP knows are classes here; the rest of the tree is in `engine/errors.py`. Free text passes
the gate's mask, so that an answer never repeats personal data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import errors as pg
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.rendering import instant, to_json
from engine import errors, reflex
from engine.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    Conflict,
    DueworkError,
    Malformed,
    NotFound,
    StoreUnavailable,
)

MEDIA = "application/problem+json"
RETRY_AFTER = timedelta(seconds=2)
"""What a caller is asked to wait when the error itself does not say."""


class MethodNotAllowed(DueworkError):
    """The path exists and does not know this method; `Allow` lists those it knows."""

    code, status = "method_not_allowed", 405


class NotAcceptable(DueworkError):
    """The answer has only one media type, and the `Accept` header excludes it."""

    code, status = "not_acceptable", 406


class TooLarge(DueworkError):
    """The request body is larger than DUEWORK_MAX_BODY_BYTES."""

    code, status = "too_large", 413


class UnsupportedMedia(DueworkError):
    """The request body's media type is neither JSON nor YAML."""

    code, status = "unsupported_media_type", 415


class Failed(DueworkError):
    """A defect in duework; the log has the details under the request id."""

    code, status = "internal_error", 500


def catalogue() -> list[type[DueworkError]]:
    """Every error class that an answer may carry, by status and code: the source of the reference."""
    own = [MethodNotAllowed, NotAcceptable, TooLarge, UnsupportedMedia, Failed]
    shared = [each for each in vars(errors).values() if _is_error(each)]
    return sorted((*own, *shared), key=lambda each: (each.status, each.code))


def rows() -> list[tuple[int, str, bool, str]]:
    """(status, code, retryable, meaning) of every error."""
    return [(each.status, each.code, each.retryable, meaning(each)) for each in catalogue()]


def meaning(error: type[DueworkError]) -> str:
    """What an error says, in one line."""
    return " ".join((error.__doc__ or "").split())


def response(error: DueworkError, request: Request, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells `error`."""
    body = to_json(members(error, request.scope["path"], str(request.state.request_id)))
    return Response(body, error.status, {**_headers(error), **(headers or {})}, MEDIA)


def members(error: DueworkError, path: str, request_id: str) -> dict[str, Any]:
    """The problem object: RFC 9457's members, ours, and the seeds' error, message, timestamp, details."""
    title = error.code.replace("_", " ").capitalize()
    told = _told(error, path)
    detail = told["detail"]
    return {
        "type": f"/docs#{error.code}",
        "title": title,
        "status": error.status,
        "detail": detail,
        "instance": told["instance"],
        "code": error.code,
        "request_id": request_id,
        "errors": told["errors"],
        "error": title,
        "message": detail,
        "timestamp": instant(datetime.now(UTC)),
        "details": told["details"],
    }


def _told(error: DueworkError, path: str) -> dict[str, Any]:
    """What the error quotes, masked: a message, the pointers and details of problems, and the path that was asked for.

    Pointers consist of keys, which are the caller's words as much as values are.
    """
    quoted = {
        "detail": error.message,
        "instance": path,
        "errors": [problem.as_dict() for problem in error.errors],
        "details": dict(error.details),
    }
    told = reflex.cleaned(json.loads(to_json(quoted)))
    if isinstance(told, dict):
        return told
    return {"detail": error.code.replace("_", " "), "instance": "/", "errors": [], "details": {}}


def of_http(error: HTTPException) -> DueworkError:
    """The framework's own refusals as ours."""
    if error.status_code == 405:
        return MethodNotAllowed("this path does not know this method; Allow lists those it knows")
    if error.status_code == 404:
        return NotFound("there is no such path; /docs lists those there are")
    return Malformed(error.detail)


def of_database(error: psycopg.Error) -> DueworkError | None:
    """What a refusal of the database means to the caller; None for those that are our own defect."""
    if isinstance(
        error, pg.UndefinedTable | pg.InvalidSchemaName | pg.UndefinedColumn | pg.UndefinedFunction
    ):
        return StoreUnavailable("the database is not migrated; run `duework db migrate`")
    if isinstance(error, pg.UniqueViolation):
        return Conflict("somebody else made the same thing at this moment; look at it and try again")
    if isinstance(
        error, pg.SerializationFailure | pg.DeadlockDetected | pg.LockNotAvailable | pg.QueryCanceled
    ):
        return StoreUnavailable("the database was too busy for this request; try it again")
    if isinstance(error, psycopg.DataError | pg.ProgramLimitExceeded):
        return Malformed("the request holds a text or a number that cannot be stored")
    return None


def _headers(error: DueworkError) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if error.retry_after or error.status in (429, 503):
        wait = error.retry_after or RETRY_AFTER
        headers["Retry-After"] = str(max(1, math.ceil(wait.total_seconds())))
    if isinstance(error, AuthenticationFailed):
        headers["WWW-Authenticate"] = 'Bearer realm="duework"'
    if isinstance(error, AuthorizationFailed) and "scope" in error.details:
        scope = error.details["scope"]
        headers["WWW-Authenticate"] = f'Bearer realm="duework", error="insufficient_scope", scope="{scope}"'
    return headers


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, DueworkError) and value is not DueworkError
