"""What the gate finds, what it costs, and what hostile text does to it, beside libraries that look for personal data.

    python -m tests.load.gate [--data FOLDER] [--rounds 5] [--texts 40] [--sizes 100,1000,10000,100000] [--hostile 200]

Quality: the share of labelled values of which half or more is covered by some finding, of findings that cover
a value, of clean texts with a finding; for injection the share of attacks and of clean texts at medium or above.
FOLDER holds pii.jsonl ({text, spans}), pii_negative.jsonl ({text}) and injection.jsonl ({text, label}).
Without it the patterns' own examples are taken, on which the gate is right by construction.
Latency: µs of the thread's CPU time per text of a size, the best of the rounds for each text, p50 and p95, texts
in turns; no text is answered from memory but in the column that says so. Injection is only looked for by the gate.
Hostile: ms per 100 KB, and the cost of four times the text over four times the cost, 1 being linear.
Peers (scrubadub, datafog, presidio-analyzer) are measured if they are installed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.reflex import scan
from engine.reflex.catalogue import patterns
from engine.reflex.detection import at_least, searched
from tests.load.gate_peers import PEERS, Spans, System, systems
from tests.source import ROOT

UNITS = (
    "4", "4-", "4 1", "4111 1111 1111 111", "a@", "@", "1.", "1.1.1.1.", "f:", "::", "\"'`", "ignore all of the ",
    "ignore all previous ", "phone: ", "phone,", "ssn,\n", "a://b:", "😀", "a\u0301", "\ud800", "\0\n", "\u200b",
    "-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaaaa.", "DE89", "%41", "&#65;", "a ", "SWdub3Jl", "49676e6f", "1gn0r3 ",
    "a<b>b", "snoitcurtsni ", "73 103 ", "{{7*", "![a](http://b?c=", "игнорируй ", "忽略", "password=", "(((", "+1 ",
)  # fmt: skip
FILLING = ("", "x", "\n", " 1", "é")


class Labelled(NamedTuple):
    """Texts with the spans of values, texts without any, attacks, and texts that are none."""

    values: list[tuple[str, Spans]]
    clean: list[str]
    attacks: list[str]
    harmless: list[str]


def from_folder(folder: Path) -> Labelled:
    """Labelled texts from JSON lines."""
    values, clean, injection = (
        [
            json.loads(line)
            for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
            if line
        ]
        for name in ("pii", "pii_negative", "injection")
    )
    return Labelled(
        [
            (row["text"], [(span["start"], span["end"]) for span in row["spans"]])
            for row in values
            if _core(row)
        ],
        [row["text"] for row in clean if "near_miss_for" not in row],
        [row["text"] for row in injection if row["label"]],
        [row["text"] for row in injection if not row["label"]],
    )


def _core(row: dict[str, Any]) -> bool:
    return bool(row.get("tier", "core") == "core")


def from_patterns() -> Labelled:
    """The examples that the patterns carry."""
    pii = [row for row in patterns() if row.category == "pii" and row.confidence >= 0.5]
    attacks = [row for row in patterns() if row.category == "injection"]
    return Labelled(
        [_marked(text) for row in pii for text in row.match],
        [text for row in attacks for text in row.no_match],
        [text.replace("«", "").replace("»", "") for row in attacks for text in row.match],
        [text for row in attacks for text in row.no_match],
    )


def _marked(text: str) -> tuple[str, Spans]:
    start, end = text.index("«"), text.rindex("»") - 1
    return text.replace("«", "", 1)[:end] + text[end + 2 :], [(start, end)]


def covers(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether `one` covers half of `other` or more."""
    return 2 * (min(one[1], other[1]) - max(one[0], other[0])) >= other[1] - other[0]


def quality(system: System, texts: Labelled) -> tuple[float, float, float]:
    """Recall, precision and the share of clean texts with a finding."""
    found = good = right = values = 0
    for text, wanted in texts.values:
        spans = system(text)
        values += len(wanted)
        found += len(spans)
        good += sum(any(covers(span, value) for span in spans) for value in wanted)
        right += sum(any(covers(span, value) or covers(value, span) for value in wanted) for span in spans)
    flagged = sum(bool(system(text)) for text in texts.clean)
    return good / values, right / max(1, found), flagged / len(texts.clean)


def injected(texts: Sequence[str]) -> float:
    """The share of texts in which the gate finds injection at medium or above."""
    return sum(
        any(hit.severity and at_least(hit.severity, "medium") for hit in searched(text)) for text in texts
    ) / len(texts)


def of_size(size: int, count: int) -> list[str]:
    """Texts of prose, tables and commands, with a value in every kilobyte."""
    pages = [
        page.read_text(encoding="utf-8")
        for page in sorted((ROOT / "docs").rglob("*.md"))
        if "gate" not in page.name
    ]
    values = itertools.cycle(_marked(row.match[0])[0] for row in patterns() if row.category == "pii")
    prose = itertools.cycle([page[at : at + 900] for page in pages for at in range(0, len(page), 900)])
    stream = "\n".join(
        itertools.islice(
            (part for pair in zip(prose, values, strict=False) for part in pair),
            2 * count * (size // 900 + 1),
        )
    )
    return [stream[at : at + size] for at in range(0, count * size, size)]


def took(call: Callable[[str], object], text: str) -> float:
    """µs of the thread's CPU time."""
    begun = time.thread_time_ns()
    call(text)
    return (time.thread_time_ns() - begun) / 1000


def latency(calls: dict[str, Callable[[str], object]], size: int, count: int, rounds: int) -> Iterator[str]:
    """A cell for each call: p50 and p95 over the texts, of the best round of each."""
    texts = of_size(size, count)
    best = {name: [min(took(call, text), took(call, text)) for text in texts] for name, call in calls.items()}
    for _, (name, call) in itertools.product(range(rounds), calls.items()):
        best[name] = [min(known, took(call, text)) for known, text in zip(best[name], texts, strict=True)]
    for figures in best.values():
        figures.sort()
        yield f"{figures[len(figures) // 2]:>10.0f}{figures[len(figures) * 95 // 100]:>10.0f}"


def hostile(count: int) -> Iterator[tuple[str, float, float]]:
    """For each text its name, ms per 100 KB, and how the cost grows."""
    for unit, filling in itertools.islice(itertools.product(UNITS, FILLING), count):
        text = (unit + filling) * (100_000 // len(unit + filling) + 1)
        small, large = (min(took(searched, text[:size]) for _ in range(3)) for size in (25_000, 100_000))
        yield repr(unit + filling), large / 1000, large / (4 * small)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--sizes", default="100,1000,10000,100000")
    parser.add_argument("--hostile", type=int, default=200)
    given = parser.parse_args(arguments)
    texts, rivals = from_folder(given.data) if given.data else from_patterns(), systems()
    for name in sorted(set(PEERS) - set(rivals)):
        print(f"{name} is not installed")
    print(f"{'personal data':<20}{'recall':>8}{'precision':>11}{'clean texts flagged':>21}")
    for name, system in rivals.items():
        recall, precision, flagged = quality(system, texts)
        print(f"{name:<20}{recall:>8.3f}{precision:>11.3f}{flagged:>21.4f}")
    print(
        f"injection at medium: {injected(texts.attacks):.3f} of attacks, {injected(texts.harmless):.3f} of other texts"
    )
    calls: dict[str, Callable[[str], object]] = {**rivals, "from memory": scan}
    print(f"{'µs, p50 and p95':<10}" + "".join(f"{name:>20}" for name in calls))
    for size in map(int, given.sizes.split(",")):
        print(f"{size:>10}" + "".join(latency(calls, size, given.texts, given.rounds)), flush=True)
    worst = sorted(hostile(given.hostile), key=lambda row: -row[1])
    print(f"hostile texts: {len(worst)}; the slowest, ms per 100 KB, and growth (1 is linear)")
    for name, cost, growth in worst[:5]:
        print(f"{name[:40]:<42}{cost:>8.1f}{growth:>8.2f}")
    print(f"steepest growth {max((growth for _, _, growth in worst), default=0):.2f}")


if __name__ == "__main__":
    main()
