"""Redirects, followed as far as a call allows, and never to where the guard would not let it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx2
import pytest

from engine.errors import ToolRejected, ToolTimeout
from engine.tools.calls import Call
from engine.tools.http.client import HttpTools
from engine.tools.http.exchange import Asked, redirected
from tests.unit.tools.entries import entry
from tests.web import Web

CALL = Call(UUID(int=7), "fetch", "run:fetch", fence=42, attempt=1, timeout=timedelta(seconds=10))
TO = httpx2.URL("https://api.example/v1/a?x=1")


def leading(web: Web, *targets: str, status: int = 302) -> str:
    """A URL whose redirects lead over the targets, the last of them an end."""
    url = targets[-1]
    for _ in targets[:-1]:
        url = f"{web.url}/redirect?status={status}&to={quote(url, safe='')}"
    return f"{web.url}/redirect?status={status}&to={quote(url, safe='')}"


async def test_as_many_as_are_allowed_are_followed(web: Web, tools: HttpTools) -> None:
    """One more is a refusal."""
    url = leading(web, "", f"{web.url}/echo")
    answer = await tools.request({"url": url, "redirects": 2, "headers": {"x-mine": "1"}}, CALL)
    assert answer["body"]["headers"]["x-mine"] == ["1"]
    with pytest.raises(ToolRejected, match="more than 1 times"):
        await tools.request({"url": url, "redirects": 1}, CALL)
    with pytest.raises(ToolRejected, match="more than 3 times"):
        await tools.request({"url": leading(web, *[""] * 8, f"{web.url}/echo"), "redirects": 3}, CALL)


@pytest.mark.parametrize(
    "target",
    ["http://localhost:{port}/echo", "http://127.0.0.2:{port}/echo", "http://[::1]/", "//localhost/"],
)
async def test_each_hop_passes_the_guard(web: Web, tools: HttpTools, target: str) -> None:
    """A redirect to a host that is not allowed ends there."""
    url = leading(web, target.format(port=web.url.rsplit(":", 1)[1]))
    with pytest.raises(ToolRejected, match="private or local"):
        await tools.request({"url": url, "redirects": 5}, CALL)
    assert [asked.path for asked in web.asked] == ["/redirect"]


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://me@127.0.0.1/", "http://:1/"]
)
async def test_what_is_no_plain_url_is_not_followed(web: Web, tools: HttpTools, target: str) -> None:
    """Other schemes, credentials, and no host at all."""
    with pytest.raises(ToolRejected, match="redirects to what is not"):
        await tools.request({"url": leading(web, target), "redirects": 5}, CALL)


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [
        (301, "GET", b""),
        (302, "GET", b""),
        (303, "GET", b""),
        (307, "POST", b'{"a":1}'),
        (308, "POST", b'{"a":1}'),
    ],
)
async def test_the_status_says_what_is_asked_next(
    web: Web, tools: HttpTools, status: int, method: str, body: bytes
) -> None:
    """A POST becomes a GET where browsers make it one, and stays itself where the status says so."""
    tool = entry(leading(web, f"{web.url}/echo", status=status), http={"redirects": 1})
    await tools.call(tool, {"a": 1}, CALL)
    assert (web.asked[1].method, web.asked[1].body) == (method, body)
    assert ("content-type" in web.asked[1].headers) == bool(body)


def asked(**members: Any) -> Asked:
    """A request with a token."""
    headers = {"authorization": "Bearer x", "x-api-key": "y", "accept": "text/html", "content-type": "a/b"}
    return replace(Asked("GET", TO, "it", headers), **members)


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("/v2", True),
        ("https://API.example:443/v2", True),
        ("https://api.example:444/v2", False),
        ("https://api.example.evil/v2", False),
        ("https://evil.example/v2", False),
    ],
)
def test_tokens_stay_with_their_origin(location: str, *, kept: bool) -> None:
    """Another host or port gets none of the headers that the first was meant to have."""
    headers = redirected(asked(), 302, location).headers
    assert ("authorization" in headers, "x-api-key" in headers) == (kept, kept)
    assert headers["accept"] == "text/html"


def test_plain_http_may_become_https_and_not_the_reverse() -> None:
    """With its headers: it is the same host."""
    plain = asked(url=httpx2.URL("http://api.example/"))
    assert "authorization" in redirected(plain, 301, "https://api.example/").headers
    with pytest.raises(ToolRejected, match="from https to http"):
        redirected(asked(), 301, "http://api.example/")


@pytest.mark.parametrize("members", [{"method": "POST", "content": b"x"}, {"method": "DELETE"}])
def test_what_acts_does_not_act_elsewhere(members: dict[str, Any]) -> None:
    """A body, or a method that changes something, does not follow to another origin."""
    with pytest.raises(ToolRejected, match="another origin"):
        redirected(asked(**members), 307, "https://evil.example/")


async def test_the_timeout_is_for_all_hops(web: Web, tools: HttpTools) -> None:
    """One clock from the first name to the last byte."""
    call = Call(UUID(int=7), "fetch", "run:fetch", 42, 1, timeout=timedelta(milliseconds=300))
    with pytest.raises(ToolTimeout):
        await tools.request({"url": leading(web, f"{web.url}/slow"), "redirects": 1}, call)
    assert json.dumps([one.path for one in web.asked]) in ('["/redirect", "/slow"]', '["/redirect"]', "[]")
