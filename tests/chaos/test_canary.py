"""Promise (e): what the gate refuses, and secrets, reach no table, no log line and no notification.

A canary e-mail address and a canary secret go through every door that a run has: inputs, outputs, templates,
errors, retries, events, runs of other tasks, and a server that sends back what it was sent. Then everything
that was stored, logged and notified is searched for them.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from typing import Any

import pytest
from psycopg import sql

from engine import db
from engine.db import Connection
from engine.store import notifier
from tests.factories import make_task, queue, rows, step, until
from tests.processes import Crew
from tests.web import Web, web_server

LOCAL = "zq7canary"
MAIL = f"{LOCAL}@fastmail.com"
# Put together at run time: the definitions themselves are not what is searched for.
BUILT = "join('', ['zq7', 'can', 'ary', '@', 'fastmail.com'])"
IN_SQL = "SELECT ('zq7' || 'can' || 'ary' || chr(64) || 'fastmail.com')"
SECRET = "kV9-canary/secret+0f9a77=="  # with characters that Base64, URLs and JSON write differently
REDACT = {"pii": "redact"}
LOOPBACK = {"allow": ["ipv4"]}  # the server sends back the Host that it was asked for
TWICE = {"max_attempts": 2, "delay": "10ms"}


def mail_tasks(url: str) -> dict[str, list[dict[str, Any]]]:
    """Pipelines by name; each lets the e-mail address in at another place."""
    built, fail = "${" + BUILT + "}", "core.fail"
    return {
        "input": [step("a", with_={"text": built})],
        "input-key": [step("a", with_={"nested": [{"deep": f"to: {built}"}]})],
        "redacted": [
            step("a", with_={"text": built}, reflex=REDACT),
            step("b", with_={"again": "${steps.a}"}),
        ],
        "output": [step("a", "http.get", with_={"url": f"{url}/mail"})],
        "output-redacted": [
            step("a", "http.get", with_={"url": f"{url}/mail"}, reflex=REDACT),
            step("b", fail, with_={"message": "got ${steps.a.body}"}),
        ],
        "rows": [step("a", "sql.query", with_={"sql": f"{IN_SQL} AS mail"}, reflex=REDACT)],
        "row-names": [
            step("a", "sql.query", with_={"sql": f"SELECT json_object(ARRAY[{IN_SQL[7:]}, 1::text]) AS o"})
        ],
        "error": [step("a", "sql.query", with_={"sql": f"{IN_SQL}::int"})],
        "error-retried": [
            step("a", "sql.query", with_={"sql": f"{IN_SQL}::int"}, retry=TWICE | {"on": ["rejected"]})
        ],
        "error-passed-on": [
            step("a", "sql.query", with_={"sql": f"{IN_SQL}::int"}, on_error={"value": {"was": "${error}"}}),
            step("b", with_={"was": "${steps.a}"}),
        ],
        "message": [step("a", fail, with_={"message": built}, reflex=REDACT)],
        "condition": [step("a", if_=f"from_json({BUILT}) == 'x'")],
        "transform": [step("a", "core.transform", with_={"input": {}, "expression": f"from_json({BUILT})"})],
        "event": [
            step("a", "event.publish", with_={"topic": "canary", "payload": {"to": built}}, reflex=REDACT)
        ],
        "event-blocked": [step("a", "event.publish", with_={"topic": "canary", "payload": {"to": built}})],
        "run-now": [
            step("a", "task.run_now", with_={"task": "input", "params": {"to": built}}, reflex=REDACT)
        ],
        "run-now-blocked": [step("a", "task.run_now", with_={"task": "input", "params": {"to": built}})],
        "status": [
            step("a", "http.post", with_={"url": f"{url}/status/400", "json": {"to": built}}, reflex=REDACT)
        ],
        "parked": [
            step("a", with_={"t": built}, reflex=REDACT),
            step("b", "core.sleep", with_={"seconds": 1.2}),
        ],
    }


def secret_tasks(url: str) -> dict[str, list[dict[str, Any]]]:
    """Pipelines by name; each hands the secret to another tool, or to the same in another way."""
    token, headers = "${secrets.TOKEN}", {"authorization": "Bearer ${secrets.TOKEN}"}
    echo = {"url": f"{url}/echo", "headers": headers, "params": {"key": token}}
    return {
        "s-headers": [
            step("a", "http.get", with_=echo, reflex=LOOPBACK),
            step("b", with_={"seen": "${steps.a.body}"}, reflex=LOOPBACK),
        ],
        "s-body": [step("a", "http.post", with_=echo | {"json": {"deep": [token]}}, reflex=LOOPBACK)],
        "s-base64": [step("a", "http.get", with_=echo | {"url": f"{url}/echo64"}, reflex={"pii": "allow"})],
        "s-text": [step("a", "http.post", with_=echo | {"body": f"token={token}"}, reflex=LOOPBACK)],
        "s-refused": [
            step("a", "http.get", with_={"url": f"{url}/status/503", "headers": headers}, retry=TWICE)
        ],
        "s-url": [step("a", "http.get", with_={"url": f"{url}/nowhere/{token}"})],
        "s-header-name": [
            step("a", "http.get", with_={"url": f"{url}/echo", "headers": {"x": f"{token}\nx: y"}})
        ],
        "s-echo": [step("a", with_={"t": token}), step("b", with_={"t": "${steps.a}"})],
        "s-fail": [step("a", "core.fail", with_={"message": f"it was {token}"})],
        "s-sql": [step("a", "sql.query", with_={"sql": "SELECT %s AS t", "params": [token]})],
        "s-sql-error": [step("a", "sql.query", with_={"sql": "SELECT %s::text::int", "params": [token]})],
        "s-event": [step("a", "event.publish", with_={"topic": "canary", "payload": {"t": token}})],
        "s-run-now": [step("a", "task.run_now", with_={"task": "input", "params": {"t": token}})],
        "s-parked": [step("a", with_={"t": token}), step("b", "core.sleep", with_={"seconds": 1.2})],
        "s-on-failure": [step("a", "core.fail", with_={"message": token})],
    }


def telling_tasks(url: str) -> dict[str, list[dict[str, Any]]]:
    """Pipelines by name; what was given is told in every form, by a server or by a tool's own error."""
    token = "${secrets.TOKEN}"
    echo = {"url": f"{url}/echo", "headers": {"authorization": f"Bearer {token}"}}
    return {
        # Given to one step, and told by a server in every form to the next one, which was not given it.
        "s-forms": [
            step("a", "http.get", with_=echo, reflex=LOOPBACK),
            step("b", "http.get", with_={"url": f"{url}/forms"}, reflex={"pii": "allow"}),
            step("c", "core.fail", with_={"message": "got ${steps.b.body}"}, reflex={"pii": "allow"}),
        ],
        "s-resumed": [
            step("a", "http.post", with_=echo | {"body": "x"}, reflex=LOOPBACK),
            step("b", "core.sleep", with_={"seconds": 1.2}),
            step("c", "http.get", with_={"url": f"{url}/forms"}, reflex={"pii": "allow"}),
        ],
        "s-file": [
            step("a", "file.write", with_={"path": "../${secrets.TOKEN}", "content": token}),
        ],
        "s-mail": [step("a", "email.send", with_={"to": "ada@example.org", "subject": token, "text": token})],
        "s-model": [
            step(
                "a",
                "llm.chat",
                with_={
                    "url": url,
                    "api_key": token,
                    "model": token,
                    "messages": [{"role": "user", "content": token}],
                },
            )
        ],
    }


def told() -> dict[str, str]:
    """The secret as a careless server writes it."""
    quoted = urllib.parse.quote(SECRET, safe="")
    return {
        "plain": f"key={SECRET};",
        "hex": SECRET.encode().hex(),
        "HEX": SECRET.encode().hex().upper(),
        "percent": quoted,
        "percent in small letters": small(quoted),
        "twice": urllib.parse.quote(quoted),
        "json": json.dumps({"inner": SECRET}),
        "php": SECRET.replace("/", "\\/"),
        **{f"base64 at {n}": base64.b64encode(b"x" * n + SECRET.encode() + b"y").decode() for n in range(3)},
        f"as a key {SECRET}": "",
    }


def small(quoted: str) -> str:
    """Percent-encoding with small letters."""
    return re.sub("%..", lambda code: code[0].lower(), quoted)


def needles() -> list[str]:
    """Every form in which a canary could be found."""
    forms = [LOCAL]
    for text in (MAIL, SECRET):
        shifted = [base64.b64encode(b"x" * n + text.encode()).decode()[4:-8] for n in range(3)]
        quoted, packed = urllib.parse.quote(text, safe=""), text.encode().hex()
        forms += [
            text,
            *shifted,
            quoted,
            urllib.parse.quote(quoted),
            small(quoted),
            packed,
            packed.upper(),
            text[::-1],
        ]
    return [*forms, json.dumps(SECRET)[1:-1], SECRET[:12], SECRET[-12:]]


async def everything(conn: Connection) -> str:
    """Every row of every table of duework, as text."""
    tables = await rows(conn, "SELECT tablename FROM pg_tables WHERE schemaname = 'duework'")
    texts = []
    for table in tables:
        name = sql.Identifier("duework", table["tablename"])
        found = await conn.execute(sql.SQL("SELECT t::text AS line FROM {} AS t").format(name))
        texts += [row["line"] for row in await found.fetchall()]
    return "\n".join(texts)


@pytest.fixture
async def crew_with_secret(crew: Crew) -> Crew:
    crew.secrets["TOKEN"] = SECRET
    return crew


async def test_no_canary_is_found_anywhere(
    conn: Connection, database_url: str, crew_with_secret: Crew
) -> None:
    """After runs that pass them through every door, no table, log line or notification holds a canary."""
    crew = crew_with_secret
    async with await db.connect(database_url, "ears") as ears:
        for channel in (notifier.WORK, notifier.CANCEL):
            await ears.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        with web_server() as web:
            web.answers["/mail"] = (
                "application/json",
                json.dumps({"to": MAIL, "also": [f"<{MAIL}>"]}).encode(),
            )
            web.answers["/forms"] = ("application/json", json.dumps(told()).encode())
            web.answers["/chat/completions"] = ("application/json", json.dumps({"error": told()}).encode())
            await crew.scheduler(http_allow="127.0.0.1")
            await crew.worker(http_allow="127.0.0.1")
            await run_all(conn, web)
            assert SECRET in "".join(asked.headers.get("authorization", [""])[0] for asked in web.asked)
        heard = [notice.payload async for notice in ears.notifies(timeout=0.1)]
    stored, logged = await everything(conn), crew.text()
    assert heard
    assert "[EMAIL]" in stored
    assert "[SECRET:TOKEN]" in stored
    for needle in needles():
        assert needle not in stored, context(stored, needle)
        assert needle not in logged, context(logged, needle)
        assert needle not in "".join(heard)


def context(text: str, needle: str) -> str:
    place = text.index(needle)
    return f"{needle!r} in …{text[max(0, place - 300) : place + 100]}…"


async def run_all(conn: Connection, web: Web) -> None:
    """Run each pipeline and look at how it ended."""
    await make_task(
        conn, "waiting", [step("a", with_={"e": "${event}"})], schedule={"event": {"topic": "canary"}}
    )
    tasks = mail_tasks(web.url) | secret_tasks(web.url) | telling_tasks(web.url)
    tail: dict[str, Any] = {"on_failure": [step("tell", with_={"error": "${error}"})], "retry": TWICE}
    expected = set()
    for name, steps in tasks.items():
        made = await make_task(conn, name, steps, **tail)
        expected.add(await queue(conn, made))
    outputs = {
        "out": "${" + BUILT + "}",
        "s-out": "${secrets.TOKEN}",
        "out-error": "${from_json(" + BUILT + ")}",
    }
    for name, output in outputs.items():
        expected.add(await queue(conn, await make_task(conn, name, output=output)))
    done = "SELECT FROM duework.task_run WHERE final AND run_id = ANY(%s) HAVING count(*) = %s"
    await until(conn, done, list(expected), len(expected))
    ended = await rows(conn, "SELECT task, status FROM duework.runs WHERE run_id = ANY(%s)", list(expected))
    status = {row["task"]: row["status"] for row in ended}
    blocked = {"input", "input-key", "output", "row-names", "event-blocked", "run-now-blocked", "out"}
    assert {name for name, how in status.items() if how == "blocked"} >= blocked
    fine = {
        "redacted",
        "rows",
        "event",
        "run-now",
        "parked",
        "s-headers",
        "s-body",
        "s-echo",
        "s-sql",
        "s-parked",
        "s-resumed",
    }
    assert {status["s-event"], status["s-run-now"]} == {"failed"}, "a secret would be stored"
    verdicts = await rows(
        conn, "SELECT step, direction, findings FROM duework.verdicts WHERE action = 'block'"
    )
    assert {name: status[name] for name in fine} == dict.fromkeys(fine, "succeeded"), verdicts
