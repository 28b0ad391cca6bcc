"""What a remote gate says, read strictly: anything but a whole, consistent answer about this very text is none.

The answer is not trusted with what is stored: of a match only its place, its kind's name, its rule's name and its
measure are taken, and what is shown of the value comes from our own text.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from engine.errors import GateUnavailable
from engine.reflex.edition import pii_kinds
from engine.reflex.findings import SEVERITIES, UNKNOWN, Hit

OVERLAPPING = 256
"""How many times its matches may cover a text: each is masked, and digested where it blocks, which takes as long as it
is wide. Honest ones overlap where several rules find something in one encoded stretch."""

_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_RULE = re.compile(r"[a-z][a-z0-9_]{0,63}(?:\.[a-z0-9_]{1,64}){0,3}", re.ASCII)


class WrongAnswer(GateUnavailable):
    """The gate answered, and not what it was asked: the same as no answer."""


def read(data: bytes, text: str) -> list[Hit]:
    """The hits in `text` that the answer names, as it lists them; they may overlap.

    Offsets are code points, half-open. A kind of personal data that is not known here becomes a hit of category
    UNKNOWN. Raises WrongAnswer, which never quotes the answer.
    """
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        _refuse("it is no JSON")
    if not isinstance(answer, dict):
        _refuse("it is no JSON object")
    if answer.get("status") not in ("Success", "Blocked"):
        _refuse("its `status` is neither Success nor Blocked")
    count = answer.get("characters")
    if type(count) is not int or count != len(text):
        _refuse("its `characters` are not those of the text: it judged another text, or counts otherwise")
    pii = [_pii(match, count) for match in _matches(answer, "pii")]
    found = pii + [_injection(match, count) for match in _matches(answer, "injection")]
    if sum(hit.end - hit.start for hit in found) > OVERLAPPING * count:
        _refuse(f"its matches cover the text more than {OVERLAPPING} times")
    return found


def _matches(answer: dict[str, Any], what: str) -> list[dict[str, Any]]:
    matches, detected = answer.get(f"{what}_matches"), answer.get(f"{what}_detected")
    if not isinstance(matches, list) or not all(isinstance(match, dict) for match in matches):
        _refuse(f"its `{what}_matches` are no list of objects")
    if detected is not bool(matches) or (matches and answer["status"] != "Blocked"):
        _refuse(f"it contradicts itself about {what}")
    return matches


def _pii(match: dict[str, Any], count: int) -> Hit:
    start, end = _span(match, count)
    kind, rule = _name(match, "pii_type", _KIND), _name(match, "rule", _RULE)
    confidence = match.get("confidence")
    if not isinstance(confidence, int | float) or isinstance(confidence, bool) or not 0 <= confidence <= 1:
        _refuse("a `confidence` is no number from 0 to 1")
    category = "pii" if kind in pii_kinds() else UNKNOWN
    return Hit(category, kind, rule, start, end, float(confidence), "")


def _injection(match: dict[str, Any], count: int) -> Hit:
    start, end = _span(match, count)
    family, rule = _name(match, "injection_type", _KIND), _name(match, "rule", _RULE)
    severity = match.get("severity")
    if not isinstance(severity, str) or severity.lower() not in SEVERITIES:
        _refuse(f"a `severity` is none of {', '.join(SEVERITIES)}")
    return Hit("injection", family, rule, start, end, 0.0, severity.lower())


def _span(match: dict[str, Any], count: int) -> tuple[int, int]:
    start, end = match.get("position"), match.get("end")
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= count:
        _refuse("a match lies outside the text")
    return start, end


def _name(match: dict[str, Any], member: str, form: re.Pattern[str]) -> str:
    name = match.get(member)
    if not isinstance(name, str) or not form.fullmatch(name):
        _refuse(f"a `{member}` is no name")
    return name


def _refuse(what: str) -> NoReturn:
    raise WrongAnswer(f"the gate's answer cannot be used: {what}")
