"""The gate and the libraries beside it, each as a function from a text to the spans of personal data it finds."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module, util
from typing import Any

from engine.reflex.detection import ACT_FROM, searched

Spans = list[tuple[int, int]]
System = Callable[[str], Spans]


def duework(text: str) -> Spans:
    """The gate's own, worked out anew each time; personal data and injection are looked for together."""
    return [
        (hit.start, hit.end) for hit in searched(text) if hit.category == "pii" and hit.confidence >= ACT_FROM
    ]


def scrubadub() -> System:
    """scrubadub's default detectors."""
    scrubber = import_module("scrubadub").Scrubber()
    return lambda text: [(filth.beg, filth.end) for filth in scrubber.iter_filth(text)]


def datafog() -> System:
    """DataFog's regular expressions."""
    annotator = import_module("datafog.processing.text_processing.regex_annotator").RegexAnnotator()
    return lambda text: [(span.start, span.end) for span in annotator.annotate_with_spans(text)[1].spans]


def presidio() -> System:
    """Presidio's pattern recognizers from 0.4 on, without a language model."""
    analyzer = import_module("presidio_analyzer")
    registry = analyzer.RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    chosen = [each for each in registry.recognizers if isinstance(each, analyzer.PatternRecognizer)]

    def spans(text: str) -> Spans:
        found: list[Any] = [
            hit for each in chosen for hit in each.analyze(text, each.supported_entities, None)
        ]
        return [(hit.start, hit.end) for hit in found if hit.score >= 0.4]

    return spans


PEERS = {"scrubadub": scrubadub, "datafog": datafog, "presidio_analyzer": presidio}
"""By the name of the package to import."""


def systems() -> dict[str, System]:
    """The gate, and each peer that is installed."""
    installed = {name: make() for name, make in PEERS.items() if util.find_spec(name)}
    return {"duework": duework} | installed
