"""The JSON Schemas of allowances, the marks of false positives; the package joins them to the others."""

from __future__ import annotations

from api.schemas.words import ID, MAY_ID, MAY_TIME, TEXT, TIME, Schema, may, obj, page
from engine.reflex.allowing import LONGEST_PATTERN, LONGEST_VALUE

_KIND: Schema = {"type": "string", "minLength": 1, "maxLength": 64}

BODIES: dict[str, Schema] = {
    "AllowanceNew": obj(
        "reason",
        closed=True,
        value={
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_VALUE,
            "description": "What is found, exactly and as a whole; kept as a keyed digest, never as it is.",
        },
        pattern={
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_PATTERN,
            "description": "RE2, for the whole of what is found; too wide ones are refused.",
        },
        kind=_KIND | {"description": "The kind or family it is for; any without."},
        task={"type": "string", "minLength": 1, "maxLength": 200, "description": "Id or name; any without."},
        reason={
            "type": "string",
            "minLength": 1,
            "maxLength": 1000,
            "description": "Why it is a false positive; personal data is masked.",
        },
        expires_at=TIME | {"description": "When it ends; never without this and expires_in."},
        expires_in={"type": "string", "minLength": 1, "maxLength": 40, "description": 'As "30d", "12h".'},
    )
    | {
        "oneOf": [{"required": ["value"]}, {"required": ["pattern"]}],
        "not": {"required": ["expires_at", "expires_in"]},
        "errorMessage": "give exactly one of value and pattern, and at most one of expires_at and expires_in",
        "examples": [
            {
                "pattern": "build-[0-9]{10}",
                "kind": "phone",
                "reason": "numbers of builds",
                "expires_in": "90d",
            }
        ],
    },
}

_ALLOWANCE: Schema = {
    "id": ID,
    "task_id": MAY_ID,
    "task": may("string"),
    "kind": may("string"),
    "form": {"enum": ["value", "pattern"]},
    "pattern": may("string"),
    "status": {"enum": ["standing", "expired", "revoked"]},
    "reason": TEXT,
    "author": TEXT,
    "created_at": TIME,
    "expires_at": MAY_TIME,
    "revoked_at": MAY_TIME,
    "revoked_by": may("string"),
}
ANSWERS: dict[str, Schema] = {
    "Allowance": obj(*_ALLOWANCE, **_ALLOWANCE),
    "AllowancePage": page("Allowance"),
}
