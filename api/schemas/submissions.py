"""Bodies and answers of /submit, in the shape of seed 004."""

from __future__ import annotations

from api.schemas.words import COUNT, ID, MAY_TIME, TEXT, TIME, Schema, may, obj, ref

PRIORITIES = {"critical": 1, "high": 3, "medium": 5, "low": 7}
"""What the words mean in the queue, where 1 runs first."""

BODIES: dict[str, Schema] = {
    "Submission": obj(
        "goal",
        closed=True,
        goal={"type": "string", "minLength": 1, "maxLength": 10_000, "description": "What is to be done, in words."},
        constraints=may("object", description="What the result must keep to."),
        context=may("string", maxLength=50_000, description="What is good to know."),
        acceptance_criteria={
            "type": ["array", "null"],
            "items": {"type": "string", "minLength": 1, "maxLength": 10_000},
            "maxItems": 100,
            "description": "What tells that it is done.",
        },
        budget={"anyOf": [obj(
            closed=True,
            max_tokens={"type": "integer", "minimum": 1, "maximum": 100_000},
            max_time_seconds={"type": "integer", "minimum": 1, "maximum": 3600},
            max_cost_usd={"type": "number", "minimum": 0, "maximum": 100},
        ), {"type": "null"}], "description": "Ends the run when it is spent; that of the pipeline holds, too."},
        priority={"enum": [*PRIORITIES, None], "default": "medium"},
        metadata=may("object", description="Kept with the run, and handed to the pipeline."),
    )
    | {"examples": [{"goal": "Summarise the release notes", "acceptance_criteria": ["One paragraph"]}]},
}  # fmt: skip

ANSWERS: dict[str, Schema] = {
    "Submitted": obj("task_id", "status", "message", task_id=ID, status={"const": "pending"}, message=TEXT),
    "TaskOrSubmission": {"anyOf": [ref("Task"), ref("SubmittedTask")]},
    "SubmittedTask": obj(
        *("id", "task_id", "run_id", "status", "state", "goal", "created_at", "updated_at"),
        id=ID,
        task_id=ID,
        run_id=ID,
        status={"enum": ["pending", "processing", "completed", "failed", "cancelled"]},
        state=TEXT | {"description": "The run's status, in our own words."},
        goal=TEXT,
        result={"description": "The pipeline's output, once it has ended."},
        error=may("string"),
        task=may("string", description="The task whose pipeline runs it."),
        priority=may("string"),
        metadata=may("object"),
        created_at=TIME,
        updated_at=TIME,
        started_at=MAY_TIME,
        finished_at=MAY_TIME,
        processing_time_ms=COUNT | {"type": ["integer", "null"]},
    ),
}
