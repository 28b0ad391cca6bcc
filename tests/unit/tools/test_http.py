"""The http tools against a real server: what is asked, what is answered, and what is never connected to."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from engine.errors import (
    DueworkError,
    InputInvalid,
    OutputInvalid,
    RateLimited,
    ToolRejected,
    ToolTimeout,
    ToolUnavailable,
)
from engine.settings import Settings
from engine.tools.calls import Call
from engine.tools.http.answer import MAX_RESPONSE
from engine.tools.http.client import HttpTools
from engine.tools.registry import load_catalog
from engine.tools.toolbox import open_toolbox
from tests.unit.tools.entries import entry
from tests.unit.tools.names import resolving
from tests.web import Web

CALL = Call(UUID(int=7), "fetch", "run:fetch", fence=42, attempt=1, timeout=timedelta(seconds=10))
OURS = {
    "idempotency-key": ["run:fetch"],
    "duework-fence": ["42"],
    "duework-run": [str(UUID(int=7))],
    "duework-step": ["fetch"],
    "traceparent": [CALL.traceparent],
}


async def test_answers_are_parsed_by_their_type(web: Web, tools: HttpTools) -> None:
    """JSON and +json become values, text stays text, and cookies are not handed on."""
    web.answers = {
        "/json": ("application/json; charset=utf-8", b'{"n": [1, 2.5, null]}'),
        "/problem": ("application/problem+json", b'{"status": 404}'),
        "/text": ("text/plain; charset=utf-8", "grüezi".encode()),
        "/untrue": ("application/json", b"<html>"),
    }
    answer = await tools.request({"url": f"{web.url}/json"}, CALL)
    assert (answer["status"], answer["body"]) == (200, {"n": [1, 2.5, None]})
    assert answer["headers"]["content-type"] == "application/json; charset=utf-8"
    assert (await tools.request({"url": f"{web.url}/problem"}, CALL))["body"] == {"status": 404}
    assert (await tools.request({"url": f"{web.url}/text"}, CALL))["body"] == "grüezi"
    with pytest.raises(OutputInvalid, match="is not JSON"):
        await tools.request({"url": f"{web.url}/untrue"}, CALL)


async def test_what_is_asked_arrives(web: Web, tools: HttpTools) -> None:
    """Method, query, headers, JSON and text bodies."""
    arguments = {"method": "PUT", "url": f"{web.url}/echo?a=1", "params": {"b": 2, "c": True}}
    body = (await tools.request(arguments | {"json": {"x": [None]}}, CALL))["body"]
    assert json.loads(body["body"]) == {"x": [None]}
    assert body["headers"]["content-type"] == ["application/json"]
    await tools.request({"method": "POST", "url": f"{web.url}/echo", "body": "zürich"}, CALL)
    first, second = web.asked
    assert (first.method, second.body.decode()) == ("PUT", "zürich")
    assert first.query.items() >= {"b": ["2"], "c": ["true"]}.items()


async def test_headers_are_texts_numbers_and_booleans(web: Web, tools: HttpTools) -> None:
    """`${index}` is a number; what comes to null is not sent."""
    contract = load_catalog(Settings()).get("http.get").input
    given = {"url": f"{web.url}/echo", "headers": {"X-N": 3, "X-Yes": True, "X-None": None, "X-Text": "a"}}
    assert contract.check(given) == []
    await tools.request(given, CALL)
    sent = web.asked[0].headers
    assert {name: sent.get(name) for name in ("x-n", "x-yes", "x-none", "x-text")} == {
        "x-n": ["3"], "x-yes": ["true"], "x-none": None, "x-text": ["a"],
    }  # fmt: skip


@pytest.mark.parametrize("address", ["http.get", "http.post", "http.request"])
def test_a_text_that_is_no_url_is_refused_in_words(address: str) -> None:
    """Before anything is asked; not as a pattern."""
    contract = load_catalog(Settings()).get(address).input
    for url, told in {
        "https://h.example": [],
        "example.org/x": ["must begin with http:// or https://"],
    }.items():
        problems = contract.check({"url": url, "method": "POST"} if address != "http.get" else {"url": url})
        assert [problem.detail for problem in problems] == told


@pytest.mark.parametrize(
    ("status", "kind"),
    [(status, ToolUnavailable) for status in (408, 425, 500, 502, 503, 504)]
    + [(429, RateLimited)]
    + [(status, ToolRejected) for status in (400, 401, 403, 404, 409, 410, 422, 501, 505)],
)
async def test_the_status_decides_about_a_retry(
    web: Web, tools: HttpTools, status: int, kind: type[DueworkError]
) -> None:
    """What says "not now" is retryable, what says "no" is not; for the builtins and for catalog entries."""
    url = f"{web.url}/status/{status}"
    for call in (tools.request({"url": url}, CALL), tools.call(entry(url), {}, CALL)):
        with pytest.raises(kind) as refused:
            await call
        assert type(refused.value) is kind
        assert refused.value.details == {"status": status}


async def test_expect_replaces_the_rule(web: Web, tools: HttpTools) -> None:
    """A 404 that is expected is an answer; a 200 that is not is a refusal."""
    answer = await tools.request({"url": f"{web.url}/status/404", "expect": [200, 404]}, CALL)
    assert (answer["status"], answer["body"]) == (404, {"why": "asked"})
    with pytest.raises(ToolRejected, match="200"):
        await tools.request({"url": f"{web.url}/status/200", "expect": [201]}, CALL)


async def test_redirects_are_not_followed(web: Web, tools: HttpTools) -> None:
    """A redirect is an answer; following it could lead to where the first URL could not."""
    answer = await tools.request({"url": f"{web.url}/redirect"}, CALL)
    assert (answer["status"], answer["headers"]["location"]) == (302, f"{web.url}/echo")
    assert [asked.path for asked in web.asked] == ["/redirect"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_our_headers_cannot_be_overridden(web: Web, tools: HttpTools, method: str) -> None:
    """Identity, fence, host and framing are sent once and are ours, however the caller spells them."""
    given = {
        "Idempotency-Key": "mine",
        "DUEWORK-FENCE": "99",
        "duework-Run": "mine",
        "Host": "evil.example",
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "User-Agent": "me",
        "X-Mine": "yes",
    }
    body = {"body": "hello"} if method == "POST" else {}
    await tools.request({"method": method, "url": f"{web.url}/echo", "headers": given} | body, CALL)
    (asked,) = web.asked
    assert asked.headers.items() >= OURS.items()
    assert asked.headers["host"] == [web.url.removeprefix("http://")]
    assert (asked.headers["user-agent"], asked.headers["x-mine"]) == (["me"], ["yes"])
    assert asked.body == body.get("body", "").encode()


async def test_a_catalog_entry_is_posted_its_input(web: Web) -> None:
    """Transport http: input as JSON in, JSON out, with the headers by which a receiver knows a stale worker."""
    async with open_toolbox(Settings(), None) as toolbox:
        tool = entry(f"{web.url}/echo", allow_hosts=["127.0.0.1"])
        await toolbox.call(tool, {"city": "Chișinău"}, CALL)
        (asked,) = web.asked
        assert (asked.method, json.loads(asked.body)) == ("POST", {"city": "Chișinău"})
        assert asked.headers.items() >= OURS.items()
        with pytest.raises(ToolRejected, match="DUEWORK_HTTP_ALLOW"):
            await toolbox.call(entry(f"{web.url}/echo"), {}, CALL)
    assert len(web.asked) == 1


async def test_the_operator_allows_hosts(web: Web) -> None:
    """DUEWORK_HTTP_ALLOW names them, separated by commas, in any case."""
    catalog = load_catalog(Settings())
    async with open_toolbox(Settings(http_allow="elsewhere, LOCALHOST"), None) as toolbox:
        url = web.url.replace("127.0.0.1", "localhost")
        answer = await toolbox.call(catalog.get("http.get"), {"url": f"{url}/status/200"}, CALL)
        assert answer["status"] == 200
        with pytest.raises(ToolRejected):
            await toolbox.call(catalog.get("http.get"), {"url": web.url}, CALL)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1:99999/", {}),
        ("http://[::1/", {}),
        ("http://a..b/", {}),
        (f"http://{'a' * 64}.example/", {}),
        ("ftp://127.0.0.1/", {}),
        ("http:///path", {}),
        ("http://127.0.0.1/\x00", {}),
        ("http://127.0.0.1/", {"x": "a\r\nb: c"}),
        ("http://127.0.0.1/", {"x y": "1"}),
        ("http://127.0.0.1/", {"x": "é"}),
    ],
)
async def test_what_is_no_request_is_the_inputs_fault(
    web: Web, tools: HttpTools, url: str, headers: dict[str, str]
) -> None:
    """A URL or header that cannot be sent is InputInvalid: asking again would not help."""
    target = url.replace("http://127.0.0.1/", f"{web.url}/")
    with pytest.raises(InputInvalid):
        await tools.request({"url": target, "headers": headers}, CALL)
    assert not web.asked


async def test_nobody_there_is_unavailable(tools: HttpTools, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection and an unknown name may be different next time; the query stays out of the message."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ToolUnavailable) as refused:
        await tools.request({"url": f"{url}/x?token=hidden"}, CALL)
    assert "hidden" not in str(refused.value)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving({}))
    with pytest.raises(ToolUnavailable, match="cannot be resolved"):
        await tools.request({"url": "http://nowhere.invalid/"}, CALL)


async def test_answers_have_a_limit(web: Web, tools: HttpTools) -> None:
    """It counts what comes out of the compression, and stops there."""
    web.answers = {
        "/most": ("text/plain", bytes(MAX_RESPONSE)),
        "/more": ("text/plain", bytes(MAX_RESPONSE + 1)),
    }
    assert len((await tools.request({"url": f"{web.url}/most"}, CALL))["body"]) == MAX_RESPONSE
    for path in ("/more", "/bomb"):
        with pytest.raises(OutputInvalid, match="larger than"):
            await tools.request({"url": web.url + path}, CALL)
    with pytest.raises(OutputInvalid, match="cannot be decoded"):
        await tools.request({"url": f"{web.url}/broken-gzip"}, CALL)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
async def test_a_broken_off_answer_is_unavailable(tools: HttpTools, start: bytes) -> None:
    """Half an answer is none, and may be whole next time."""
    async with raw_server(start) as url:
        with pytest.raises(ToolUnavailable):
            await tools.request({"url": url}, CALL)


async def test_a_slow_answer_is_a_timeout(web: Web, tools: HttpTools) -> None:
    """By the step's timeout, also when it is the reading that takes long."""
    call = replace(CALL, timeout=timedelta(milliseconds=150))
    async with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nslow", ends=False) as url:
        for target in (url, f"{web.url}/slow"):
            with pytest.raises(ToolTimeout):
                await tools.request({"url": target}, call)


async def test_an_answer_that_drips_is_a_timeout(tools: HttpTools) -> None:
    """The timeout is for the whole answer: a byte now and then does not prolong it."""
    dripped: list[bytes] = []
    done = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not writer.is_closing() and not (await asyncio.wait({done}, timeout=0.02))[0]:
            writer.write(b".")
            dripped.append(b".")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    with pytest.raises(ToolTimeout):
        await tools.request({"url": url}, replace(CALL, timeout=timedelta(seconds=0.5)))
    done.set_result(None)
    server.close()
    await server.wait_closed()
    assert len(dripped) > 1


async def test_what_comes_after_the_promised_length_is_no_answer(tools: HttpTools) -> None:
    """A body that is longer than it said is cut there, and nobody takes the rest for the next answer."""
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    async with raw_server(start, ends=False) as url:
        for _ in range(2):
            assert (await tools.request({"url": url}, CALL))["body"] == "ok"


@asynccontextmanager
async def raw_server(start: bytes, *, ends: bool = True) -> AsyncIterator[str]:
    """A server that answers any request with these bytes, and then hangs up or says no more."""
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(start)
        await writer.drain()
        if not ends:
            await done.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        done.set()
        server.close()
        await server.wait_closed()
