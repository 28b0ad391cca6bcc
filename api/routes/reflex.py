"""/reflex: the gate as a service, in the shape that OctoLLM's reflex layer has (seed 004)."""

from __future__ import annotations

import time
from typing import Any

from api.operations import Answer, Call, Operation
from engine import reflex


async def process(call: Call) -> Answer:
    """Judge a text; matches are masked, and the text is not kept."""
    began = time.perf_counter()
    text = call.body["text"]
    found = reflex.scan(text)
    pii = [_pii(each) for each in found["pii"]] if call.body["check_pii"] else []
    injection = [_injection(each) for each in found["injection"]] if call.body["check_injection"] else []
    blocked = bool(pii or injection)
    return Answer(
        {
            "request_id": call.request_id,
            "status": "Blocked" if blocked else "Success",
            "pii_detected": bool(pii),
            "pii_matches": pii,
            "injection_detected": bool(injection),
            "injection_matches": injection,
            "cache_hit": False,
            "processing_time_ms": round((time.perf_counter() - began) * 1000, 3),
        }
    )


def _pii(match: dict[str, Any]) -> dict[str, Any]:
    return {
        "pii_type": match["type"],
        "value": match["masked"],
        "position": match["start"],
        "end": match["end"],
        "confidence": match["confidence"],
    }


def _injection(match: dict[str, Any]) -> dict[str, Any]:
    return {
        "injection_type": match["family"],
        "severity": match["severity"].capitalize(),
        "position": match["start"],
        "end": match["end"],
        "rule": match["rule"],
    }


OPERATIONS = (
    Operation(
        "POST", "/reflex/process", process, "reflex", "Judge a text by the gate", {200: "ReflexAnswer"},
        scope="reflex:use", body="ReflexAsked", errors=(422,),
    ),
)  # fmt: skip
