"""What an HTTP answer means: which statuses are an answer, which may be tried again, and what the body says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx2

from engine.errors import DueworkError, OutputInvalid, RateLimited, ToolRejected, ToolUnavailable
from engine.retry import LONGEST_ASKED

MAX_RESPONSE = 4 * 1024 * 1024
"""Bytes of an answer, decompressed, where the catalog entry says nothing else."""
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
SUCCESS = frozenset(range(200, 300))
_SLOW_CODECS = frozenset({"idna", "punycode"})  # their decoders take the square of a text's length

Form = Literal["auto", "json", "text", "full"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How an answer is read. `mapped` are statuses that stand for a value of their own."""

    expect: frozenset[int] = SUCCESS
    retry_on: frozenset[int] = BUSY
    mapped: Mapping[int, Any] = field(default_factory=dict)
    form: Form = "auto"
    redirects: int = 0
    max_bytes: int = MAX_RESPONSE


def statuses(given: Iterable[int | str]) -> frozenset[int]:
    """Statuses as a catalog writes them: 404, or "5xx" for a whole class."""
    found: set[int] = set()
    for one in given:
        text = str(one)
        found |= set(range(int(text[0]) * 100, int(text[0]) * 100 + 100)) if text[1:] == "xx" else {int(text)}
    return frozenset(found)


def value_of(response: httpx2.Response, rules: Rules) -> Any:
    """The tool's output. Raises RateLimited, ToolUnavailable, ToolRejected, OutputInvalid."""
    if response.status_code in rules.mapped:
        return rules.mapped[response.status_code]
    if response.status_code not in rules.expect:
        raise refused(response, rules.retry_on)
    if rules.form == "full":
        return whole(response)
    if rules.form == "text":
        return _text(response)
    return _json(response, "") if rules.form == "json" else _by_type(response)


def whole(response: httpx2.Response) -> dict[str, Any]:
    """{status, headers, body}: names in lower case, cookies left out."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    headers.pop("set-cookie", None)
    return {"status": response.status_code, "headers": headers, "body": _by_type(response)}


def refused(response: httpx2.Response, retry_on: frozenset[int] = BUSY) -> DueworkError:
    """The error that an unexpected status is. What the server wrote is left out: no gate has looked at it."""
    status = response.status_code
    detail = f"the server answered {status}"
    if 300 <= status < 400 and "location" in response.headers:
        detail += ", a redirect, which is followed only where `redirects` allows it"
    if status not in retry_on:
        return ToolRejected(detail, details={"status": status})
    kind = RateLimited if status == 429 else ToolUnavailable
    wait = retry_after(response.headers, datetime.now(UTC))
    return kind(detail, details={"status": status}, retry_after=wait)


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long the server asks to wait (RFC 9110 section 10.2.3), at most LONGEST_ASKED; None if it does not say.

    A date is counted from the server's own `Date`, so that a clock that is wrong there or here does no harm.
    """
    given = headers.get("retry-after", "").strip()
    if given.isascii() and given.isdecimal():
        return timedelta(seconds=min(int(given[:12]), LONGEST_ASKED.total_seconds()))
    until = _instant(given)
    if until is None:
        return None
    wait = until - (_instant(headers.get("date", "")) or now)
    return min(max(wait, timedelta(0)), LONGEST_ASKED)


def _instant(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _by_type(response: httpx2.Response) -> Any:
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return _json(response, kind)
    return _text(response) if response.content or response.status_code != 204 else None


def _json(response: httpx2.Response, kind: str) -> Any:
    """The body as JSON; no body at all is null, as a 204 and a HEAD have it."""
    if not response.content:
        return None
    try:
        return json.loads(response.content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        named = f"calls itself {kind} and" if kind else "was expected to be JSON and"
        raise OutputInvalid(f"the answer {named} is not JSON: {_first_line(error)}") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _text(response: httpx2.Response) -> str:
    """The body as text, by the charset it names; what that cannot read is replaced."""
    charset = (response.charset_encoding or "utf-8").lower()
    try:
        if charset not in _SLOW_CODECS:
            return response.content.decode(charset, "replace")
    except (LookupError, ValueError):  # no codec of that name, or one that is not for text
        pass
    return response.content.decode("utf-8", "replace")


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
