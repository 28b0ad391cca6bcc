"""One HTTP exchange: a request that is all made up, its redirects, and an answer that was read to its end.

Whatever can go wrong on the way becomes a class of the error tree here; the messages show the request as its
author wrote it, never with the secrets that were put in.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx2

from engine.errors import InputInvalid, OutputInvalid, ToolRejected, ToolTimeout, ToolUnavailable
from engine.tools.calls import Call
from engine.tools.http.answer import Rules

_FRAMING = frozenset({"connection", "content-length", "transfer-encoding", "te", "upgrade", "host"})
"""Headers that say how the request is cut into bytes and for whom; the client writes them, whatever the caller says."""
_FOLLOWED = frozenset({301, 302, 303, 307, 308})
_KEPT_ABROAD = frozenset({"accept", "user-agent", "traceparent"})
_USERINFO = re.compile(r"[^/?#]*//[^/?#]*@")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, complete. `shown` is its URL as messages may name it."""

    method: str
    url: httpx2.URL
    shown: str
    headers: Mapping[str, str]
    content: bytes | None = None


def parsed(url: str, shown: str) -> httpx2.URL:
    """A URL that may be asked: http or https, a host, no credentials in it. Raises InputInvalid."""
    try:
        found = httpx2.URL(url)
    except (
        httpx2.InvalidURL,
        ValueError,
    ) as error:  # a port out of range, a bracket left open, an empty label
        raise InputInvalid(f"{shown} is not a URL") from error
    if found.scheme not in _PORTS or not found.host or not _is_port(found.port):
        raise InputInvalid(f"{shown} is not an http or https URL")
    if found.userinfo or _USERINFO.match(url):
        raise InputInvalid("credentials belong into the headers as ${secrets.NAME}, not into the URL")
    return found


def _is_port(port: int | None) -> bool:
    return port is None or 0 < port < 65_536


def headers_of(given: Mapping[str, str], call: Call) -> dict[str, str]:
    """The caller's headers, and ours over them: names are compared without case, and each is sent once."""
    named = {name.lower(): value for name, value in given.items()}
    return {
        "user-agent": "duework",
        **{name: value for name, value in named.items() if name not in _FRAMING},
        "idempotency-key": call.idempotency_key,
        "duework-fence": str(call.fence),
        "duework-run": str(call.run_id),
        "duework-step": call.step,
        "traceparent": call.traceparent,
    }


async def exchange(client: httpx2.AsyncClient, asked: Asked, rules: Rules, call: Call) -> httpx2.Response:
    """The answer, read whole. `call.timeout` is for all of it: name, connection, redirects and the last byte.

    Raises InputInvalid for what is no request, OutputInvalid for an answer that is too long or cannot be decoded,
    ToolTimeout, ToolUnavailable, and ToolRejected for a host or a redirect that is not allowed.
    """
    named = f"{asked.method} {asked.shown}"
    try:
        async with asyncio.timeout(call.timeout.total_seconds()):
            return await _followed(client, asked, rules)
    except TimeoutError as error:
        raise ToolTimeout(f"{named} did not answer within {call.timeout}") from error
    except (httpx2.InvalidURL, httpx2.LocalProtocolError, UnicodeError) as error:
        raise InputInvalid(f"{named} cannot be asked like this: {error}") from error
    except httpx2.DecodingError as error:
        raise OutputInvalid(f"{named}: the answer cannot be decoded: {error}") from error
    except httpx2.TransportError as error:
        raise ToolUnavailable(f"{named}: {type(error).__name__}: {error}") from error


async def _followed(client: httpx2.AsyncClient, asked: Asked, rules: Rules) -> httpx2.Response:
    """The answer after at most `rules.redirects` redirects; with none allowed, a redirect is the answer."""
    for left in range(rules.redirects, -1, -1):
        response = await _once(client, asked, rules.max_bytes)
        if not rules.redirects or response.status_code not in _FOLLOWED or "location" not in response.headers:
            return response
        if left:
            asked = redirected(asked, response.status_code, response.headers["location"])
    raise ToolRejected(f"{asked.shown} redirects more than {rules.redirects} times")


async def _once(client: httpx2.AsyncClient, asked: Asked, limit: int) -> httpx2.Response:
    """Send and read the answer, stopping at `limit` bytes whatever its headers say."""
    request = client.build_request(
        asked.method, asked.url, headers=dict(asked.headers), content=asked.content, timeout=None
    )
    response = await client.send(request, stream=True)
    try:
        chunks, size = [], 0
        async for chunk in response.aiter_bytes():  # decompressed in pieces of at most a megabyte
            size += len(chunk)
            if size > limit:
                raise OutputInvalid(f"the answer is larger than {limit} bytes")
            chunks.append(chunk)
    finally:
        await response.aclose()
    headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() != "content-encoding"]
    return httpx2.Response(response.status_code, headers=headers, content=b"".join(chunks))


def redirected(asked: Asked, status: int, location: str) -> Asked:
    """The request that follows a redirect (RFC 9110 section 15.4). Raises ToolRejected for one that must not follow.

    Another origin gets none of the headers, which may hold what only the first may know, and never the body.
    """
    target = _target(asked, location)
    to_get = status == 303 or (status in (301, 302) and asked.method == "POST")
    method = "GET" if to_get and asked.method != "HEAD" else asked.method
    content = None if to_get else asked.content
    headers = dict(asked.headers)
    if content is None:
        headers = {name: value for name, value in headers.items() if not name.startswith("content-")}
    if not _same_origin(asked.url, target):
        if content is not None or method not in ("GET", "HEAD"):
            raise ToolRejected(
                f"{asked.shown} redirects a {method} to {target.host}, which is another origin"
            )
        headers = {name: value for name, value in headers.items() if name in _KEPT_ABROAD}
    return replace(asked, method=method, url=target, headers=headers, content=content)


def _target(asked: Asked, location: str) -> httpx2.URL:
    try:
        target = asked.url.join(location)
    except (httpx2.InvalidURL, ValueError) as error:
        raise ToolRejected(f"{asked.shown} redirects to what is not a URL") from error
    if target.scheme not in _PORTS or not target.host or target.userinfo or not _is_port(target.port):
        raise ToolRejected(f"{asked.shown} redirects to what is not a plain http or https URL")
    if asked.url.scheme == "https" and target.scheme == "http":
        raise ToolRejected(f"{asked.shown} redirects from https to http")
    return target


def _same_origin(one: httpx2.URL, other: httpx2.URL) -> bool:
    """Scheme, host and port alike, or the same host's https instead of its http."""
    if one.host != other.host:
        return False
    ports = one.port or _PORTS[one.scheme], other.port or _PORTS[other.scheme]
    return (one.scheme == other.scheme and ports[0] == ports[1]) or ports == (80, 443)
