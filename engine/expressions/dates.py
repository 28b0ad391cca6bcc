"""The dialect's arithmetic on times: ISO 8601 texts in, ISO 8601 texts out, and no clock anywhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from engine.durations import parse_duration
from engine.errors import ValidationFailed
from engine.expressions.values import Refused

_PATTERN = re.compile(r"%(.?)", re.DOTALL)
_CODES = frozenset("YmdHMSfjyBbAapIzZVGu%")
_MAX_PATTERN = 200


def moved(time: object, delta: timedelta) -> str:
    """`time` (an ISO 8601 text) moved by `delta`; the dialect's `now+24h`."""
    if not isinstance(time, str):
        raise Refused("an offset like +24h needs a time before it, an ISO 8601 text such as now")
    try:
        return _text(_instant(time) + delta)
    except OverflowError as error:
        raise Refused("the time is out of range") from error


def date_add(time: str, amount: str | float) -> str:
    """`time` moved by a duration ("24h", "-1d12h") or by a number of seconds."""
    negative = amount.lstrip().startswith("-") if isinstance(amount, str) else amount < 0
    try:
        size = amount.strip().lstrip("+-") if isinstance(amount, str) else abs(amount)
        delta = parse_duration(size)
    except ValidationFailed as error:
        raise Refused('date_add() needs a duration like "24h" or "-1d12h", or a number of seconds') from error
    return moved(time, -delta if negative else delta)


def date_format(time: str, pattern: str, zone: str = "UTC") -> str:
    """`time` written by a strftime pattern, in an IANA time zone."""
    unknown = {code for code in _PATTERN.findall(pattern) if code not in _CODES or not code}
    if unknown or len(pattern) > _MAX_PATTERN:
        raise Refused(f"date_format() knows the codes {' '.join('%' + code for code in sorted(_CODES))}")
    try:
        local = _instant(time).astimezone(ZoneInfo(zone))
    except (OSError, ValueError, OverflowError, KeyError) as error:
        raise Refused("date_format() needs a time zone such as Europe/Chisinau or UTC") from error
    # %Y is not padded on every platform; and strftime refuses texts that hold what no pattern needs.
    return _PATTERN.sub(lambda match: _written(local, match.group()), pattern)


def _written(local: datetime, code: str) -> str:
    return f"{local.year:04d}" if code == "%Y" else local.strftime(code)


def _instant(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused("the text is not a time: write it like 2026-12-01T09:00:00Z") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _text(time: datetime) -> str:
    text = time.isoformat()
    return f"{text[:-6]}Z" if time.utcoffset() == timedelta(0) and text.endswith("+00:00") else text
