"""The ways in that the API has: for each the requests that bring a text there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx2

from tests.factories import document, step

Call = tuple[str, str, dict[str, Any]]
"""Method, path, and what else the client's `request` takes."""
TASK = "standing"
"""A task that is there, with the policy of the round."""


def definitions(text: str) -> Iterator[dict[str, Any]]:
    """The text in each part of a definition."""
    yield document(title=text)
    yield document(description=text)
    yield document(labels={"owner": text})
    yield document(labels={text: "owner"})
    yield document(params={"to": [text]})
    yield document(params={text: 1})
    yield document(params_schema={"type": "object", "description": text})
    yield document(params_schema={"properties": {"to": {"enum": [text], "default": text}}})
    yield document(steps=[step("a", with_={"text": text})])
    yield document(steps=[step("a", with_={"text": f"${{params.to}} and {text}"})])
    yield document(steps=[step("a", with_={text: 1})])
    yield document(steps=[step("a", title=text)])
    yield document(steps=[step("a", on_error={"value": text})])
    yield document(steps=[step("a", foreach=[text])])
    yield document(steps=[step("a", if_=f"params.to == '\n{text}\n'")])
    yield document(steps=[step("a", if_=text)])
    yield document(steps=[step("a", text)])
    yield document(steps=[step(text)])
    yield document(steps=[step("a", save_as=text)])
    yield document(on_failure=[step("z", with_={"text": text})])
    yield document(output={"text": text})
    yield document(concurrency={"key": text})
    yield document(dedupe={"key": text})
    yield document(text)
    yield document(set=text)
    yield document(reflex={"allow": [text]})
    yield document() | {text: 1}
    for kind in ("cron", "rrule", "every", "once"):
        yield document(schedule={kind: text})
    yield document(schedule={"event": {"topic": text}})
    yield document(schedule={"event": {"topic": "t", "filter": f"payload.to == '\n{text}\n'"}})
    yield document(schedule={"cron": "0 9 * * *", "timezone": text})
    probe = {"uses": "core.echo", "with": {"text": text}}
    yield document(schedule={"condition": {"every": "1h", "probe": probe, "when": "text == 'x'"}})


def defined(text: str, policy: Mapping[str, Any]) -> Iterator[Call]:
    """As new tasks, as changes of one, tried only, and applied."""
    ruled = {"reflex": dict(policy)}
    for one in definitions(text):
        yield "POST", "/tasks", {"json": ruled | one}
    for one in (
        document(title=text),
        document(steps=[step("a", with_={"text": text})]),
        document() | {text: 1},
    ):
        yield "PUT", f"/tasks/{TASK}", {"json": ruled | one | {"name": TASK}}
        yield "POST", "/tasks?dry_run=true", {"json": ruled | one}
        yield "POST", "/apply", {"json": [ruled | one]}
    yield "PATCH", f"/tasks/{TASK}", {"json": {"labels": {"owner": text}, text: 1}}
    yield "PATCH", f"/tasks/{TASK}", {"json": {"labels": {"owner": text}}}
    yaml = f"apiVersion: duework/v1\nname: y\n{text}: 1\ntitle: [{text}\n"
    yield "POST", "/tasks", {"content": yaml.encode(), "headers": {"content-type": "application/yaml"}}
    steps = [{"id": "a", "uses": "core.echo", "with": {"t": text}}]
    seed = {"title": text, "schedule_kind": "manual", "schedule_expr": "", "payload": {"pipeline": steps}}
    yield "POST", "/tasks", {"json": seed}


def run_now(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """In parameters, as a value and as a key; and in a backfill's."""
    for params in ({"to": text}, {text: {"deep": [text]}}):
        yield "POST", f"/tasks/{TASK}/run_now", {"json": {"params": params}}
    asked = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z", "params": {"to": text}}
    yield "POST", f"/tasks/{TASK}/backfill", {"json": asked}
    yield "POST", f"/tasks/{TASK}/run_now", {"json": {text: 1}}


def events(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """In an event's payload and in each of its names."""
    yield "POST", "/events", {"json": {"topic": "canary.outer", "payload": {"to": text, text: [text]}}}
    yield "POST", "/events", {"json": {"topic": text, "payload": {}}}
    yield "POST", "/events", {"json": {"topic": "canary.outer", "id": text[:255]}}
    cloud = {"specversion": "1.0", "type": "canary.outer", "source": "s", "id": "1", "data": text}
    yield "POST", "/events", {"json": cloud}
    yield "POST", "/events", {"json": cloud | {"id": "2", "source": text[:500], "subject": text}}


def reasons(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """With every change of state that takes one. The run is there no more, so its answer is a refusal."""
    reason = {"reason": text[:1000]}
    yield "POST", f"/tasks/{TASK}/snooze", {"json": reason | {"delay_seconds": 60}}
    yield "POST", f"/tasks/{TASK}/pause", {"json": reason}
    yield "POST", f"/tasks/{TASK}/resume", {"json": reason}
    yield "POST", f"/tasks/{TASK}/backfill/cancel", {"json": reason}


def agents(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """In an agent's name, scopes and webhook, and in a token's label."""
    word = max(text.split(), key=len)
    yield "POST", "/agents", {"json": {"name": text, "scopes": []}}
    yield "POST", "/agents", {"json": {"name": word, "scopes": []}}
    yield "POST", "/agents", {"json": {"name": "hooked", "webhook_url": f"https://example.com/{quote(text)}"}}
    yield "POST", "/agents", {"json": {"name": "hooked", "webhook_url": text}}
    yield "PATCH", "/agents/known", {"json": {"scopes": [f"tool:{word}"]}}
    yield "PATCH", "/agents/known", {"json": {"webhook_url": f"https://example.com/?to={text}"}}
    yield "POST", "/agents/known/credentials", {"json": {"label": text[:100]}}


def queries(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """In paths and query strings, by known names and as a name."""
    asked = quote(text, safe="")
    for name in ("q", "label", "cursor", "status", "set", "created_by", "nothing"):
        yield "GET", f"/tasks?{name}={asked}", {}
    yield "GET", f"/tasks?{asked}=1", {}
    yield "GET", f"/events?topic={asked}", {}
    yield "GET", f"/runs?task={asked}&since={asked}", {}
    for path in ("tasks", "nowhere", "runs", "tools", "agents"):
        yield "GET", f"/{path}/{asked}", {}
    yield "DELETE", f"/health/{asked}", {}


def headers(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """In each header that is read, and in some that are not."""
    plain = text.encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ").replace("\0", " ")
    run = f"/tasks/{TASK}/run_now"
    for name in ("X-Request-ID", "Idempotency-Key", "Prefer", "If-Match", "Accept", "traceparent"):
        for value in (plain, plain.replace(" ", "")):
            yield "POST", run, {"json": {}, "headers": {name: value[:2000]}}
    yield "GET", "/tasks", {"headers": {"Authorization": f"Bearer {plain}"}}
    yield "GET", "/tasks", {"headers": {"User-Agent": plain, "Referer": plain, "Cookie": f"a={plain}"}}
    yield "POST", run, {"content": b"{}", "headers": {"Content-Type": plain}}


def bodies(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """In what is no body at all, and in one of a route that stores nothing."""
    yield "POST", "/events", {"content": f"{{not json {text}".encode()}
    yield "POST", "/events", {"content": f'{{"topic": "{text}", "topic": 1}}'.encode()}
    yield "POST", "/events", {"content": text.encode()}
    yield "POST", "/reflex/process", {"json": {"text": text}}
    yield "POST", "/reflex/process", {"json": {"text": "x", text: 1}}
    yield "POST", "/schedules/preview", {"json": {"schedule": {"cron": text}}}
    yield "POST", "/schedules/preview", {"json": {"schedule": {"rrule": f"FREQ=DAILY;{text}"}}}


def trial(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """To a tool that is tried."""
    yield "POST", "/tools/core.echo/test", {"json": {"input": {"text": text}}}
    yield "POST", "/tools/core.fail/test", {"json": {"input": {"message": text}}}
    yield "POST", "/tools/core.transform/test", {"json": {"input": {"input": {}, "expression": text}}}


def allowances(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """As a value and a pattern that may pass from now on, and in everything that is said of it."""
    path, word = "/reflex/allowances", max(text.split(), key=len)
    yield "POST", path, {"json": {"value": text, "reason": text[:1000]}}
    yield "POST", path, {"json": {"value": word, "reason": text[:1000], "expires_in": text[:100]}}
    yield "POST", path, {"json": {"value": "x", "reason": "r", "kind": text, "task": text}}
    yield "POST", path, {"json": {"value": "x", "reason": "r", "task": text}}
    yield "GET", f"{path}/{quote(text, safe='')}", {}
    yield "GET", f"/quarantine?status={quote(text, safe='')}", {}


def agents_calls(text: str, _policy: Mapping[str, Any]) -> Iterator[Call]:
    """In the arguments of the tools that are offered over MCP."""
    for name, arguments in (
        ("run_task", {"task": TASK, "params": {"to": text}}),
        ("run_task", {"task": text}),
        ("create_task", {"definition": document(title=text)}),
        ("publish_event", {"topic": "canary.outer", "payload": {"to": text}}),
        ("pause_task", {"task": TASK, "reason": text[:1000]}),
        (text, {text: text}),
    ):
        call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": name, "arguments": arguments},
        }
        accepted = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
        yield "POST", "/mcp", {"json": call, "headers": accepted}


WAYS: Mapping[str, Callable[[str, Mapping[str, Any]], Iterator[Call]]] = {
    "definition": defined,
    "run-now": run_now,
    "event": events,
    "reason": reasons,
    "agent": agents,
    "query-string": queries,
    "header": headers,
    "body": bodies,
    "tool-trial": trial,
    "mcp": agents_calls,
    "allowance": allowances,
}
"""By the name that the way has in the documentation."""


async def ask(api: httpx2.AsyncClient, call: Call) -> str:
    """The whole answer as text: status, headers and body."""
    method, path, given = call
    answer = await api.request(method, path, **given)
    return f"{answer.status_code} {dict(answer.headers)}\n{answer.text}"
