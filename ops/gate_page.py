"""The reference page of what the gate looks for, from the rows of its pattern data."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator

from engine.reflex.catalogue import Pattern, patterns

OPENING = (
    "Every row of `engine/reflex/patterns/*.toml`, with the first of the texts in which it must be found, « and » "
    "around what is found. The tests are made of the same rows. Confidence: 0.95 a checksum or a form that nothing "
    "else has, 0.85 form and range, 0.75 and less the words around it; the gate acts from 0.5. Severity: critical "
    "says it outright, high in other words, medium is part of an attack and has honest uses; the default policy blocks "
    "from high. What the gate is, and what it cannot do, stands in [the gate](../explanation/the-gate.md)."
)

_TITLES = {
    "pii": "Personal data and credentials",
    "injection": "Prompt injection",
    "evasion": "Disguises",
}
_SAID = {
    "pii": "Verdicts name the kind, and the row as `rule`.",
    "injection": "Verdicts name the family, and the row as `rule`. Local rules may lower the severity.",
    "evasion": "What a row notices is undone, and what comes out is matched against the patterns of injection.",
}


def sections() -> Iterator[str]:
    """One section for each category."""
    for category, title in _TITLES.items():
        rows = [row for row in patterns() if row.category == category]
        head = f"| Row | {'Confidence' if category == 'pii' else 'Severity'} | Source | Found in |"
        if category == "evasion":
            head = "| Row | Undone as | Source | Found in |"
        yield f"## {title}\n\n{_SAID[category]}\n\n" + "\n".join(
            (head, "| --- | --- | --- | --- |", *map(_line, rows))
        )


def _line(row: Pattern) -> str:
    measure = {"pii": f"{row.confidence:g}", "injection": row.severity, "evasion": row.kind}[row.category]
    shown = json.dumps(row.match[0], ensure_ascii=False)[1:-1].replace('\\"', '"')
    example = (
        html.escape(shown, quote=False).replace("|", "&#124;").replace("[", "&#91;").replace("`", "&#96;")
    )
    return f"| `{row.name}` | {measure} | {row.source} | <code>{example}</code> |"
