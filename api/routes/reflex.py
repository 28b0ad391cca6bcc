"""/reflex: the gate as a service, in the shape that OctoLLM's reflex layer has (seed 004).

It answers from the patterns of this process alone, also where this one asks a remote gate itself, so that two that
name each other do not ask each other for ever. A policy is the asker's business: everything that is found is told.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from api.operations import Answer, Call, Operation
from engine.gate.texts import sendable
from engine.reflex.detection import hits
from engine.reflex.findings import Hit, masked

LARGEST = 8 << 20
"""Bytes of a body: the longest text that is taken, whatever JSON makes of its signs."""
_QUICK = 10_000
"""Characters up to which a text is searched on the event loop; more goes to a thread."""


async def process(call: Call) -> Answer:
    """Judge a text; matches are masked, and the text is not kept. Offsets are code points, half-open."""

    async def follow() -> Answer:
        began = time.perf_counter()
        text = call.body["text"]
        found = hits(text) if len(text) <= _QUICK else await asyncio.to_thread(hits, text)
        seconds = time.perf_counter() - began
        return Answer(_told(call, found) | {"processing_time_ms": round(seconds * 1000, 3)})

    return Answer(follow=follow)


def _told(call: Call, found: list[Hit]) -> dict[str, Any]:
    text = call.body["text"]
    wanted = {"pii": call.body["check_pii"], "injection": call.body["check_injection"]}
    found = [hit for hit in found if wanted[hit.category]]
    pii = [_pii(hit, text) for hit in found if hit.category == "pii"]
    injection = [_injection(hit) for hit in found if hit.category == "injection"]
    return {
        "request_id": call.request_id,
        "status": "Blocked" if found else "Success",
        "characters": len(text),
        "pii_detected": bool(pii),
        "pii_matches": pii,
        "injection_detected": bool(injection),
        "injection_matches": injection,
        "cache_hit": False,
    }


def _pii(hit: Hit, text: str) -> dict[str, Any]:
    shown = sendable(masked(text[hit.start : hit.end]))
    place = {"position": hit.start, "end": hit.end}
    return {"pii_type": hit.kind, "value": shown, **place, "confidence": hit.confidence, "rule": hit.rule}


def _injection(hit: Hit) -> dict[str, Any]:
    place = {"position": hit.start, "end": hit.end}
    return {
        "injection_type": hit.kind,
        "severity": hit.severity.capitalize(),
        **place,
        "rule": hit.rule,
    }


OPERATIONS = (
    Operation(
        "POST", "/reflex/process", process, "reflex", "Judge a text by the gate", {200: "ReflexAnswer"},
        scope="reflex:use", body="ReflexAsked", errors=(422,), kept=False, largest=LARGEST,
    ),
)  # fmt: skip
