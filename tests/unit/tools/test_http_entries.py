"""Catalog entries of transport http: how the input becomes a request, and what an answer becomes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from engine.errors import (
    DueworkError,
    InputInvalid,
    OutputInvalid,
    RateLimited,
    ToolRejected,
    ToolUnavailable,
    ValidationFailed,
)
from engine.retry import LONGEST_ASKED
from engine.secrets import Secrets
from engine.tools.calls import Call
from engine.tools.http.answer import retry_after
from engine.tools.http.client import HttpTools
from tests.unit.tools.entries import entry
from tests.web import Asked, Web

CALL = Call(UUID(int=7), "fetch", "run:fetch", fence=42, attempt=1, timeout=timedelta(seconds=10))
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
TOKEN = "s3cr3t/with {braces}"


@asynccontextmanager
async def refused(kind: type[DueworkError], match: str | None = None) -> AsyncIterator[None]:
    """Exactly this class of the tree, with these words."""
    with pytest.raises(kind, match=match) as found:
        yield
    assert type(found.value) is kind


def secretive(**values: str) -> Call:
    """A call whose run has these secrets."""
    return replace(CALL, secrets=Secrets(values.get))


async def sent(tools: HttpTools, web: Web, path: str, arguments: dict[str, Any], **http: Any) -> Asked:
    """What arrives of one call with TOKEN as the secret T."""
    await tools.call(entry(web.url + path, http=http), arguments, secretive(T=TOKEN))
    return web.asked[-1]


@pytest.mark.parametrize(
    ("method", "query", "body"),
    [
        ("GET", {"days": ["2", "3"], "on": ["true"]}, b""),
        ("DELETE", {"days": ["2", "3"], "on": ["true"]}, b""),
        ("PATCH", {}, b'{"days":[2,3],"on":true,"none":null}'),
    ],
)
async def test_what_the_url_leaves_goes_into_the_query_or_the_body(
    web: Web, tools: HttpTools, method: str, query: dict[str, list[str]], body: bytes
) -> None:
    """By the method, as people expect it; null is no query parameter."""
    given = {"city": "Chișinău/../x", "days": [2, 3], "on": True, "none": None}
    asked = await sent(tools, web, "/echo/{city}", given, method=method, answer="text", expect=["2xx", 404])
    assert (asked.method, asked.query, asked.body) == (method, query, body)
    assert asked.raw_path.split("?")[0] == "/echo/Chi%C8%99in%C4%83u%2F..%2Fx"


async def test_templates_fill_query_headers_and_json(web: Web, tools: HttpTools) -> None:
    """A whole template keeps its type, an absent header stays away, and nothing goes anywhere by itself."""
    asked = await sent(
        tools,
        web,
        "/echo?v=1",
        {"n": 5, "tags": ["a", "b"], "rest": "not sent"},
        query={"n": "${input.n}", "tag": "${input.tags}", "gone": "${input.nothing}"},
        headers={"X-N": "number ${input.n}", "if-none-match": "${input.etag}"},
        json={"count": "${input.n}", "literal": "$${input.n}", "key": "${secrets.T}"},
    )
    assert asked.query == {"v": ["1"], "n": ["5"], "tag": ["a", "b"]}
    assert asked.headers["x-n"] == ["number 5"]
    assert "if-none-match" not in asked.headers
    assert json.loads(asked.body) == {"count": 5, "literal": "${input.n}", "key": TOKEN}
    assert asked.headers["content-type"] == ["application/json"]
    assert asked.headers["duework-step"] == ["fetch"]
    assert asked.headers["traceparent"] == [CALL.traceparent]


@pytest.mark.parametrize(
    ("http", "kind", "body"),
    [
        (
            {"form": {"a": "${input.a}", "b": ["x", 1]}},
            "application/x-www-form-urlencoded",
            b"a=1+%26+2&b=x&b=1",
        ),
        ({"text": "<a>${input.a}</a>"}, "text/plain; charset=utf-8", b"<a>1 & 2</a>"),
        ({"text": "<a/>", "headers": {"Content-Type": "text/xml"}}, "text/xml", b"<a/>"),
    ],
)
async def test_forms_and_texts(
    web: Web, tools: HttpTools, http: dict[str, Any], kind: str, body: bytes
) -> None:
    """Bodies that are not JSON, with their content type or the entry's own."""
    asked = await sent(tools, web, "/echo", {"a": "1 & 2"}, **http)
    assert (asked.headers["content-type"], asked.body) == ([kind], body)


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"bearer": "${secrets.T}"}, f"Bearer {TOKEN}"),
        (
            {"basic": {"username": "me", "password": "${secrets.T}"}},
            "Basic bWU6czNjcjN0L3dpdGgge2JyYWNlc30=",
        ),
    ],
)
async def test_secrets_are_put_in_at_the_call(
    web: Web, tools: HttpTools, auth: dict[str, Any], header: str
) -> None:
    """As bearer and basic; whatever comes back of them is masked by the run's own secrets."""
    call = secretive(T=TOKEN)
    answer = await tools.call(entry(f"{web.url}/echo", http={"auth": auth}), {}, call)
    assert web.asked[0].headers["authorization"] == [header]
    assert answer["headers"]["authorization"] == [header]
    hidden = json.dumps(call.secrets.conceal(answer))
    assert "[SECRET:T]" in hidden
    assert "s3cr3t" not in hidden


async def test_a_secret_in_the_url_stays_out_of_errors(web: Web, tools: HttpTools) -> None:
    """Some services want their token in the path; messages show the entry's own words."""
    tool = entry(web.url + "/bot${secrets.T}/{id}?k=${secrets.T}", http={"method": "GET"}, timeout_seconds=9)
    async with refused(ToolRejected, "404"):
        await tools.call(tool, {"id": "{id}"}, secretive(T="a{id}b"))
    assert web.asked[0].path.startswith("/bota%7Bid%7Db/%7Bid%7D")
    whole_url = entry("${secrets.HOOK}", http={"json": {}})
    with pytest.raises(DueworkError) as found:
        await tools.call(whole_url, {}, secretive(HOOK="http://127.0.0.1:1/hidden-token"))
    assert "hidden-token" not in str(found.value)
    assert "${secrets.HOOK}" in str(found.value)


@pytest.mark.parametrize("value", [None, "", ".", "..", {"a": 1}, ["x"]])
async def test_a_name_in_the_url_stays_one_segment(web: Web, tools: HttpTools, value: Any) -> None:
    """What would lead out of its place in the path, or make it vanish, is refused before anything is sent."""
    with pytest.raises(InputInvalid, match="goes into the URL"):
        await tools.call(entry(f"{web.url}/users/{{id}}", http={"method": "DELETE"}), {"id": value}, CALL)
    assert not web.asked


async def test_statuses_are_sorted_by_the_entry(web: Web, tools: HttpTools) -> None:
    """Mapped ones have a value, expected ones a body, those to be retried say so, the rest is refused."""
    http = {"map": {"404": {"found": False}, "409": None}, "expect": ["2xx", 418], "retry_on": [423, "5xx"]}

    async def status(number: int) -> Any:
        return await tools.call(entry(f"{web.url}/status/{number}", http=http), {}, CALL)

    assert await status(404) == {"found": False}
    assert await status(409) is None
    assert await status(418) == await status(201) == {"why": "asked"}
    for number in (423, 501):
        async with refused(ToolUnavailable, str(number)):
            await status(number)
    for number in (429, 400, 302):
        async with refused(ToolRejected, str(number)):
            await status(number)


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (503, ToolUnavailable)])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("999999999999999999999", 86_400),
        ("Mon, 23 Nov 2026 08:00:30 GMT", 30),
        ("Mon, 23 Nov 2020 08:00:30 GMT", 0),
        ("soon", None),
    ],
)
async def test_a_server_may_say_when_to_come_again(
    web: Web, tools: HttpTools, status: int, kind: type[DueworkError], header: str, seconds: int | None
) -> None:
    """In seconds or as a date, which counts from the server's own clock; at most a day."""
    web.headers = {"retry-after": header, "date": "Mon, 23 Nov 2026 08:00:00 GMT"}
    with pytest.raises(kind) as found:
        await tools.call(entry(f"{web.url}/status/{status}"), {}, CALL)
    web.headers = {}
    assert type(found.value) is kind
    assert found.value.retry_after == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0", timedelta(0)),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
        ("Mon, 23 Nov 2026 08:01:00 GMT", timedelta(minutes=1)),
        ("Monday, 23-Nov-26 08:01:00 GMT", timedelta(minutes=1)),
        ("Mon Nov 23 08:01:00 2026", timedelta(minutes=1)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_ASKED),
        ("Mon, 99 Nov 2026 08:01:00 GMT", None),
        ("Mon, 23 Nov 99999999999999999999 08:01:00 GMT", None),
        ("Mon, 23 Nov 2026 08:01:00 +99999999999999", None),
    ],
)
def test_retry_after_in_every_form(header: str, expected: timedelta | None) -> None:
    """The forms of RFC 9110 section 5.6.7, and what is none of them."""
    assert retry_after({"retry-after": header}, NOW) == expected


async def test_the_form_of_an_answer(web: Web, tools: HttpTools) -> None:
    """By type, or as the entry says; nothing at all is null."""
    web.answers = {
        "/mislabelled": ("text/plain", b'{"a": 1}'),
        "/latin": ("text/plain; charset=latin-1", b"\xe9"),
    }

    async def answer(path: str, **http: Any) -> Any:
        return await tools.call(entry(web.url + path, http=http), {}, CALL)

    assert await answer("/mislabelled") == '{"a": 1}'
    assert await answer("/mislabelled", answer="json") == {"a": 1}
    assert await answer("/status/200", answer="text") == '{"why": "asked"}'
    assert await answer("/latin") == "é"
    full = await answer("/status/200", answer="full")
    assert (full["status"], full["body"]) == (200, {"why": "asked"})
    assert await answer("/status/200", method="HEAD") is None
    assert await answer("/nothing") is None


@pytest.mark.parametrize(
    "body",
    [b"{", b"NaN", b"[1e999999, Infinity]", b"[" * 100_000, b"9" * 5000, b'"\xff"', "ü".encode("utf-16")],
)
async def test_what_is_not_json_is_an_invalid_output(web: Web, tools: HttpTools, body: bytes) -> None:
    """However strange it is, it ends as OutputInvalid."""
    web.answers = {"/json": ("application/json", body)}
    async with refused(OutputInvalid):
        await tools.call(entry(f"{web.url}/json"), {}, CALL)


@pytest.mark.parametrize("charset", ["nonsense", "base64", "undefined", "idna", "punycode"])
async def test_a_charset_that_is_none_does_no_harm(web: Web, tools: HttpTools, charset: str) -> None:
    """The text is read as UTF-8."""
    web.answers = {"/text": (f"text/plain; charset={charset}", "grüezi".encode())}
    assert await tools.call(entry(f"{web.url}/text"), {}, CALL) == "grüezi"


async def test_the_limit_is_the_entrys(web: Web, tools: HttpTools) -> None:
    """Counted after decompression, a twice compressed answer included."""
    web.answers = {"/ten": ("text/plain", b"0123456789")}
    assert await tools.call(entry(f"{web.url}/ten", http={"max_bytes": 10}), {}, CALL) == "0123456789"
    for path in ("/ten", "/bomb", "/double-bomb"):
        async with refused(OutputInvalid, "larger than 9 bytes"):
            await tools.call(entry(web.url + path, http={"max_bytes": 9}), {}, CALL)


@pytest.mark.parametrize(
    ("endpoint", "http", "words"),
    [
        ("ftp://x.example/", {}, "begins with http"),
        ("https://{host}/", {}, "the host is the catalog's"),
        ("${secrets.HOST}/{path}", {}, None),
        ("https://me:${secrets.P}@x.example/", {}, "http.auth"),
        ("https://x.example/${input.path}", {}, "write {name}"),
        ("https://x.example/${", {}, "closing }"),
        ("https://x.example/{typo}", {}, "no typo"),
        ("https://x.example/", {"json": {}, "text": ""}, "at most one of json"),
        ("https://x.example/", {"query": {"a": "${params.city}"}}, "see input and secrets"),
        ("https://x.example/", {"query": {"a": "${input.city"}}, "closing }"),
        ("https://x.example/", {"method": "TRACE"}, "nothing a tool may ask"),
        ("https://x.example/", {"method": "get"}, "method"),
        ("https://x.example/", {"methode": "GET"}, "did you mean"),
        ("https://x.example/", {"expect": ["6xx"]}, "expect"),
        ("https://x.example/", {"map": {"4xx": None}}, "map"),
        ("https://x.example/", {"auth": {}}, "auth"),
        ("https://x.example/", {"redirects": 11}, "redirects"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_at_load(
    endpoint: str, http: dict[str, Any], words: str | None
) -> None:
    """With its place, before a worker starts."""
    schema = {"type": "object", "additionalProperties": False, "properties": {"path": {"type": "string"}}}
    if words is None:
        assert entry(endpoint, http=http, input_schema=schema).endpoint == endpoint
        return
    with pytest.raises(ValidationFailed) as found:
        entry(endpoint, http=http, input_schema=schema)
    assert words in str(found.value)
