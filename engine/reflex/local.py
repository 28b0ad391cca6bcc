"""What lowers the severity of an injection: rules about the words right around the match.

Local on purpose. A word somewhere else in the text changes nothing, so an attacker cannot switch the gate
off by writing "test" at the end. Each rule takes one or more levels off; below "low" nothing is reported.
"""

from __future__ import annotations

import re

from engine.reflex.findings import SEVERITIES

_REACH = 60

_NEGATED = re.compile(
    r"(?:\b(?:do|does|did|must|should|shall|can|may|will|would|could) ?(?:not|n't)|"
    r"\b(?:don't|doesn't|mustn't|shouldn't|cannot|can't|won't|never)|\bnot be able to|(?<!why )\bnot(?: to)?)"
    r"(?: ever| simply| just| please)?\s*$",
    re.ASCII | re.IGNORECASE,
)
_NEGATED_ELSEWHERE = re.compile(
    r"(?:\b(?:nicht|non|nao|ne|jamais|nunca|mai|не|j'ai)\s+|\bn')$", re.IGNORECASE
)
_ENGLISH = re.compile(
    r"(?:ignor|disregard|forget|bypass|overrid|reveal|show|print|you)", re.ASCII | re.IGNORECASE
)
_REPORTED = re.compile(
    r"\b(?:ask|tell|told|instruct|trick|convinc|persuad|get|mak|caus|forc|order)\w{0,3} (?:\w+ ){0,3}"
    r"(?:models?|llms?|assistants?|chatbots?|ais?|bots?|agents?) (?:to|into)\s*$",
    re.ASCII | re.IGNORECASE,
)
_SINGLE = re.compile(r"(?<!\w)'|'(?!\w)", re.ASCII)
_DISCUSSED = re.compile(  # no words of URLs, paths and addresses, which anybody can put before an attack
    r"(?<![@/.])\b(?:examples?|abstract|paper|benchmark|study|studies|dataset|detect(?:ion|or|ed|s)?|block(?:s|ed)?|rejected|"
    r"refus(?:al|ed|es)|attack(?:s|ers?)?|attempts?|injections?|classif(?:y|ier|ied)|such as|phrase|string|scan|"
    r"assert|checklist|try|highlighted|called|known as|documentation|docs|survey|researchers?)\b"
    r"(?![@/]|\.\w)",
    re.ASCII | re.IGNORECASE,
)


def lowered(text: str, start: int, end: int, severity: str) -> str:
    """`severity` after the local rules, or "" when nothing is left of it.

    negated: "do not", "never" right before, three levels; in other languages (where a French past is told, too)
    before verbs of theirs. reported: somebody "asks a model to", two. quoted: a quotation mark opens right before
    the match and closes in its line, and the sentence discusses attacks: three. discussed: the sentence discusses
    attacks before it comes to the match: one. What follows an order is written by who gives it.
    """
    before = _sentence_before(text, start)
    level = SEVERITIES.index(severity)
    if _negated(text, start, before):
        level -= 3
    if _REPORTED.search(before):
        level -= 2
    if _quoted(text, start, end):
        level -= 3 if _DISCUSSED.search(f"{before} {_sentence_after(text, end)}") else 0
    elif _DISCUSSED.search(before):
        level -= 1
    return SEVERITIES[level] if level >= 0 else ""


def _negated(text: str, start: int, before: str) -> bool:
    if _NEGATED.search(before):
        return True
    return bool(_NEGATED_ELSEWHERE.search(before)) and not _ENGLISH.match(text, start)


def _quoted(text: str, start: int, end: int) -> bool:
    opened = text[max(0, start - _REACH) : start].rpartition("\n")[2]
    closed = text[end : end + _REACH].partition("\n")[0]
    if any(opened.count(sign) % 2 == 1 and sign in closed for sign in '`"'):
        return True
    return len(_SINGLE.findall(opened)) % 2 == 1 and bool(_SINGLE.search(closed))


def _sentence_before(text: str, start: int) -> str:
    near = text[max(0, start - _REACH) : start].rpartition("\n")[2]
    return re.split(r"[.!?]\s", near)[-1]


def _sentence_after(text: str, end: int) -> str:
    near = text[end : end + _REACH].partition("\n")[0]
    return re.split(r"[.!?]\s", near)[0]
