"""A process's gate made ready: compiled, and an operator's rows proven by their own examples before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from engine.errors import Problem, ValidationFailed
from engine.reflex.catalogue import Pattern
from engine.reflex.custom import refusal
from engine.reflex.detection import hits
from engine.reflex.edition import Edition, edition, judged_by
from engine.reflex.findings import Hit
from engine.settings import Settings


def prepare(settings: Settings) -> None:
    """Compile the patterns now, and not within the first run.

    Raises ValidationFailed for an operator's file that cannot be used as it stands, and for settings that name another
    file than the environment, from which alone the gate knows it.
    """
    used = edition()
    if str(settings.reflex_kinds or "") != used.source:
        raise ValidationFailed("reflex_kinds is taken from the environment: set DUEWORK_REFLEX_KINDS there")
    prove(used)


def prove(given: Edition) -> None:
    """Run the examples of an edition's own rows. Raises ValidationFailed with each that does not hold."""
    with judged_by(given):
        hits("")
        faults = [fault for number, row in enumerate(given.own) for fault in _faults(number, row)]
    if faults:
        raise refusal(given.source, faults)


def _faults(number: int, row: Pattern) -> Iterator[Problem]:
    for member, texts in (("match", row.match), ("no_match", row.no_match)):
        for index, text in enumerate(texts):
            wrong = _missed(row, text) if member == "match" else _mistaken(row, text)
            if wrong:
                detail = f"row {number + 1} ({row.name}): {member} {index + 1}: {wrong}"
                yield Problem("example_fails", detail, f"/pattern/{number}/{member}/{index}")


def _missed(row: Pattern, marked: str) -> str:
    """Why the kind is not found at exactly the marked place (an injection: from within it on); "" if it is."""
    start, end = marked.index("«"), marked.rindex("»") - 1
    found = hits(marked.replace("«", "", 1)[:end] + marked[end + 2 :])
    if row.category == "pii":
        good = any(hit.kind == row.kind and (hit.start, hit.end) == (start, end) for hit in found)
    else:
        good = any(hit.kind == row.kind and start + 1 >= hit.start and hit.end > start for hit in found)
    return "" if good else f"{row.kind} is not found at characters {start} to {end}; {_told(found)}"


def _mistaken(row: Pattern, text: str) -> str:
    found = [hit for hit in hits(text) if hit.kind == row.kind]
    return f"{_told(found)}, and must not be" if found else ""


def _told(found: list[Hit]) -> str:
    places = ", ".join(f"{hit.kind} ({hit.rule}) at {hit.start} to {hit.end}" for hit in found)
    return f"found is {places or 'nothing'}"
