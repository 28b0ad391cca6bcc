"""The error tree: the only exceptions that cross a room's border.

    DueworkError
    ├── ValidationFailed      422  a definition, a parameter or a body is wrong; `errors` says where
    │   └── Malformed         400  it could not even be parsed
    ├── NotFound              404  no such task, run, tool, agent …
    ├── Conflict              409  the name is taken, the state does not allow it
    │   └── Stale             412  If-Match names an older version
    ├── AuthenticationFailed  401  no credentials, or wrong ones
    ├── AuthorizationFailed   403  the agent lacks a scope
    ├── RateLimited           429  retryable
    ├── GateBlocked           400  the reflex gate refused a value; carries kinds and places, never values
    ├── GateUnavailable       503  retryable; the gate fails closed
    ├── ToolError             502
    │   ├── ToolTimeout       504  retryable
    │   ├── ToolUnavailable   502  retryable: connection refused, 5xx, breaker open
    │   ├── ToolRejected      502  the tool answered "no"; asking again will not help
    │   ├── InputInvalid      422  the rendered input violates the tool's input_schema
    │   └── OutputInvalid     502  the tool's answer violates its output_schema, or cannot be stored
    ├── LeaseLost             409  the lease is somebody else's now; nothing was written
    ├── BudgetExceeded        422  the run's own limit (time, tokens, cost) is spent
    └── StoreUnavailable      503  retryable; the database cannot be reached

The class decides status and retry, never the words of the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong and where: the element of RFC 9457's `errors[]`.

    `pointer` is an RFC 6901 JSON pointer ("" is the whole document); `line` and `column` count from 1
    and are None for documents that had no text form.
    """

    code: str
    detail: str
    pointer: str = ""
    line: int | None = None
    column: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, without the members that are not known."""
        members = {"pointer": self.pointer, "line": self.line, "column": self.column}
        return {k: v for k, v in members.items() if v is not None} | {
            "code": self.code,
            "detail": self.detail,
        }


@dataclass(eq=False)
class DueworkError(Exception):
    """Any failure that duework expects. `message` says what, where and how to mend it."""

    message: str
    errors: Sequence[Problem] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    retry_after: timedelta | None = None

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def as_dict(self) -> dict[str, Any]:
        """The form stored in `task_run.error` and `step_run.error`."""
        answer: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.errors:
            answer["errors"] = [problem.as_dict() for problem in self.errors]
        if self.details:
            answer["details"] = dict(self.details)
        return answer


class ValidationFailed(DueworkError):
    """A definition, a parameter or a body breaks its schema; every problem found is in `errors`."""

    code, status = "validation_failed", 422


class Malformed(ValidationFailed):
    """The text is not JSON or YAML at all, or a query parameter does not parse."""

    code, status = "malformed", 400


class NotFound(DueworkError):
    """The thing named does not exist, or the agent may not know that it does."""

    code, status = "not_found", 404


class Conflict(DueworkError):
    """The state of the thing does not allow this now."""

    code, status = "conflict", 409


class Stale(Conflict):
    """If-Match named a version that is no longer the current one."""

    code, status = "precondition_failed", 412


class AuthenticationFailed(DueworkError):
    """Credentials are missing, unknown, expired or revoked."""

    code, status = "unauthenticated", 401


class AuthorizationFailed(DueworkError):
    """The agent is known and lacks the scope that `details["scope"]` names."""

    code, status = "forbidden", 403


class RateLimited(DueworkError):
    """Too many calls; `retry_after` says when the next one may come."""

    code, status, retryable = "rate_limited", 429, True


class GateBlocked(DueworkError):
    """The reflex gate refused a value. `details["verdict"]` names kinds and places, never values."""

    code, status = "gate_blocked", 400


class GateUnavailable(DueworkError):
    """The gate gave no answer; what it should have judged goes nowhere (fail closed)."""

    code, status, retryable = "gate_unavailable", 503, True


class ToolError(DueworkError):
    """A tool call failed."""

    code, status = "tool_error", 502


class ToolTimeout(ToolError):
    """The tool did not answer within its timeout and was cancelled."""

    code, status, retryable = "timeout", 504, True


class ToolUnavailable(ToolError):
    """The tool could not be reached, or answered that it cannot serve now."""

    code, status, retryable = "unavailable", 502, True


class ToolRejected(ToolError):
    """The tool understood the call and refused it."""

    code, status = "rejected", 502


class InputInvalid(ToolError):
    """The rendered input violates the tool's input_schema; the tool was not called."""

    code, status = "input_invalid", 422


class OutputInvalid(ToolError):
    """The tool's answer violates its output_schema, or holds what PostgreSQL cannot store."""

    code, status = "output_invalid", 502


class LeaseLost(DueworkError):
    """The fence is no longer ours: another worker holds the run, or it is settled."""

    code, status = "lease_lost", 409


class BudgetExceeded(DueworkError):
    """The run spent its own limit of time, tokens or cost."""

    code, status = "budget_exceeded", 422


class StoreUnavailable(DueworkError):
    """PostgreSQL cannot be reached, or is not migrated."""

    code, status, retryable = "store_unavailable", 503, True
