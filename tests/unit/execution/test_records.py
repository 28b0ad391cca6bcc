"""What a checkpoint holds of a step, and how it comes back."""

from __future__ import annotations

import json
from dataclasses import replace

from engine.plan import StepRecord
from tests.stage import NOW

RECORD = StepRecord(0, "a", 3, 1, "core.echo", "succeeded", 2, NOW, NOW, {"n": 1}, [2], None, None)


def test_a_record_comes_back_as_it_was() -> None:
    """Through JSON, as the checkpoint's row stores it."""
    record = replace(RECORD, usage={"tokens": 7})
    assert StepRecord.of(json.loads(json.dumps(record.as_dict()))) == record


def test_what_a_newer_worker_adds_is_left_out() -> None:
    """Workers of two versions run while an upgrade lasts; a record of the newer one stops no run."""
    assert StepRecord.of({**RECORD.as_dict(), "colour": "blue"}) == RECORD
