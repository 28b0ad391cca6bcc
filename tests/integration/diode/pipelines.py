"""The ways in that a run has: for each a pipeline, with a canary in disguise in its parameters or on the web."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.factories import step
from tests.integration.diode.canaries import UNVEILED, Canary
from tests.web import Web

OPEN = "${" + UNVEILED + "}"
X = {"x": "${params.x}"}
TWICE = {"max_attempts": 2, "delay": "10ms"}
REMOTE = {"allow": ["ipv4"]}
COMMAND = """
import json, sys
x = json.load(sys.stdin)["x"].replace("\\u00a7", "")
print(x, file=sys.stderr)
sys.exit(75)
"""
_SCHEMAS: dict[str, Any] = {"input_schema": {"properties": {"x": {}}}, "output_schema": {}}
_FUNCTIONS = ("answers", "raises", "refuses", "prints", "crashes")


def catalog(folder: Path) -> Path:
    """A catalog of functions and a command that say what they are given."""
    tools: list[dict[str, Any]] = [
        {
            "address": f"my.{name}",
            "transport": "python",
            "endpoint": f"tests.integration.diode.functions:{name}",
        }
        for name in _FUNCTIONS
    ]
    command = {"transport": "command", "endpoint": [sys.executable, "-S", "-c", COMMAND]}
    tools.append({"address": "my.command", "scopes": ["tool:my.command"]} | command)
    folder.mkdir(exist_ok=True)
    (folder / "tools.json").write_text(json.dumps({"tools": [tool | _SCHEMAS for tool in tools]}))
    return folder


def put_on(web: Web, number: int, canary: Canary) -> None:
    """Let the server say a canary: as a page's text, within JSON, and as the reason of a refusal."""
    told = json.dumps({"text": canary.text, canary.text: [{"deep": canary.text}]}).encode()
    web.answers[f"/text/{number}"] = ("text/plain", canary.text.encode())
    web.answers[f"/json/{number}"] = ("application/json", told)
    web.answers[f"/refused/{number}"] = ("application/json", told)
    web.statuses[f"/refused/{number}"] = 400


def ways(url: str) -> Mapping[str, list[dict[str, Any]]]:
    """Steps by the name that the way has in the documentation."""
    return {**_payloads(url), **_told(url), "pipeline-output": [step("a")]}


def _payloads(url: str) -> dict[str, list[dict[str, Any]]]:
    """Values that a policy decides about."""
    return {
        "template": [step("a", with_={"text": f"for {OPEN}"})],
        "step-input": [step("a", with_={"nested": [{"deep": OPEN}, 1]})],
        "foreach": [step("a", foreach="${[" + UNVEILED + ", 'fine']}", with_={"each": "${item}"})],
        "tool-output": [
            step("a", "http.get", with_={"url": f"{url}/json/${{params.n}}"}),
            step("b", with_={"again": "${steps.a}"}),
        ],
        "function-output": [step("a", "my.answers", with_=X)],
        "http-request": [
            step("a", "http.post", with_={"url": f"{url}/echo", "json": {"to": OPEN}, "params": {"q": OPEN}})
        ],
        "sql-output": [
            step(
                "a", "sql.query", with_={"sql": "SELECT replace(%s, '§', '') AS t", "params": ["${params.x}"]}
            )
        ],
        "on-error": [step("a", "my.raises", with_=X, on_error={"value": {"was": "${error}", "and": OPEN}})],
        "event-publish": [
            step("a", "event.publish", with_={"topic": "canary.inner", "payload": {"to": OPEN}})
        ],
        "pipeline-run-now": [step("a", "task.run_now", with_={"task": "sink", "params": {"to": OPEN}})],
        "approval-prompt": [step("a", "core.approval", with_={"prompt": OPEN, "timeout": "1s"})],
        "event-filter": [
            step(
                "a",
                "core.wait_event",
                with_={"topic": "canary.none", "filter": f"payload.to == '\n{OPEN}\n'", "timeout": "1s"},
            )
        ],
        "model": [
            step(
                "a",
                "llm.chat",
                with_={"url": url, "model": "m", "messages": [{"role": "user", "content": OPEN}]},
            )
        ],
    }


def _told(url: str) -> dict[str, list[dict[str, Any]]]:
    """What is told of a failure."""
    failing = step("a", "my.raises", with_=X)
    return {
        "expression": [step("a", if_=f"from_json({UNVEILED}) == 'x'")],
        "function-error": [failing],
        "error-details": [step("a", "my.refuses", with_=X)],
        "function-prints": [step("a", "my.prints", with_=X)],
        "function-crash": [step("a", "my.crashes", with_=X)],
        "command-stderr": [step("a", "my.command", with_=X)],
        "retry": [step("a", "my.command", with_=X, retry=TWICE)],
        "http-error": [step("a", "http.get", with_={"url": f"{url}/refused/${{params.n}}"})],
        "mcp-error": [step("a", "far.fail", with_={"why": "${params.x}"})],
        "sql-error": [
            step(
                "a", "sql.query", with_={"sql": "SELECT replace(%s, '§', '')::int", "params": ["${params.x}"]}
            )
        ],
        "on-error-error": [
            step("a", "my.refuses", with_=X, on_error={"value": {"was": "${error}"}}),
            step("b", with_={"was": "${steps.a}"}),
        ],
        "on-failure": [failing],
    }


def members(way: str) -> dict[str, Any]:
    """What a task of this way has beside its steps."""
    if way == "pipeline-output":
        return {"output": {"text": OPEN}}
    return {"on_failure": [step("tell", with_={"error": "${error}"})]} if way == "on-failure" else {}


def documents(
    url: str, policy: Mapping[str, Any], prefix: str
) -> Iterable[tuple[str, str, list[Any], dict[str, Any]]]:
    """(way, name, steps, members) of every task under one policy."""
    for way, steps in ways(url).items():
        yield way, f"{prefix}-{way}", steps, {"reflex": policy, **members(way)}
