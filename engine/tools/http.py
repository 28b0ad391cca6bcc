"""HTTP calls: the builtins http.get, http.post, http.request, and catalog entries of transport http.

Loopback, link-local and private addresses are refused unless the operator or the catalog entry allows the
host (SSRF). The name is resolved once, checked, and the connection goes to the checked address, so a second
DNS answer cannot change the target between the check and the call. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from engine.errors import InputInvalid, OutputInvalid, ToolRejected, ToolUnavailable
from engine.tools.calls import Arguments, Call
from engine.tools.registry import ToolEntry

MAX_RESPONSE = 4 * 1024 * 1024
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpTools:
    """One pooled client per process. `allowed` are hosts whose private addresses may be reached."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = frozenset(allowed)
        self._client = httpx2.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            limits=httpx2.Limits(max_connections=100, max_keepalive_connections=20),
        )

    async def close(self) -> None:
        """Close the pooled connections."""
        await self._client.aclose()

    async def request(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """http.request and its short forms: {method?, url, headers?, params?, json|body?, expect?}.

        Answers {status, headers, body}; the body is parsed when it is JSON. A status outside `expect` (default:
        below 400) raises ToolUnavailable when trying again may help, else ToolRejected.
        """
        response = await self._send(
            arguments.get("method", "GET"), arguments["url"], arguments, call, self.allowed
        )
        expected = arguments.get("expect")
        if response.status_code not in expected if expected else response.status_code >= 400:
            raise _refused(response)
        return {
            "status": response.status_code,
            "headers": {k.lower(): v for k, v in response.headers.items() if k.lower() != "set-cookie"},
            "body": _parsed(response),
        }

    async def call_endpoint(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Any:
        """A catalog entry of transport http: its input is POSTed as JSON, its answer's JSON is the output."""
        allowed = self.allowed.union(entry.allow_hosts)
        response = await self._send("POST", entry.endpoint, {"json": arguments}, call, allowed)
        if response.status_code >= 400:
            raise _refused(response)
        return _parsed(response)

    async def _send(
        self, method: str, url: str, arguments: Mapping[str, Any], call: Call, allowed: frozenset[str]
    ) -> httpx2.Response:
        target, host = await _checked(url, allowed)
        headers = {
            "user-agent": "duework",
            **arguments.get("headers", {}),
            "host": host,
            "idempotency-key": call.idempotency_key,
            "duework-fence": str(call.fence),
            "duework-run": str(call.run_id),
        }
        content = arguments.get("body")
        request = self._client.build_request(
            method,
            target,
            headers=headers,
            params=arguments.get("params"),
            json=arguments.get("json"),
            content=content.encode() if content is not None else None,
            extensions={"sni_hostname": urlsplit(url).hostname or ""},
            timeout=call.timeout.total_seconds(),
        )
        try:
            return await self._read(request)
        except httpx2.TransportError as error:
            raise ToolUnavailable(f"{method} {_shown(url)}: {type(error).__name__}: {error}") from error

    async def _read(self, request: httpx2.Request) -> httpx2.Response:
        """Send and read the answer, stopping at MAX_RESPONSE bytes whatever its headers say."""
        response = await self._client.send(request, stream=True)
        try:
            chunks, size = [], 0
            async for chunk in response.aiter_bytes():
                size += len(chunk)
                if size > MAX_RESPONSE:
                    raise OutputInvalid(f"the answer is larger than {MAX_RESPONSE} bytes")
                chunks.append(chunk)
        finally:
            await response.aclose()
        headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() != "content-encoding"]
        return httpx2.Response(response.status_code, headers=headers, content=b"".join(chunks))


async def _checked(url: str, allowed: frozenset[str]) -> tuple[str, str]:
    """The URL with its host replaced by a checked address, and the Host header's value."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputInvalid(f"{_shown(url)} is not an http or https URL")
    if parts.username or parts.password:
        raise InputInvalid("credentials belong into the headers as ${secrets.NAME}, not into the URL")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = await _resolve(parts.hostname, port)
    if parts.hostname not in allowed and not _public(address):
        raise ToolRejected(
            f"{parts.hostname} is a private or local address; an operator may allow the host "
            "with DUEWORK_HTTP_ALLOW or in the catalog entry's allow_hosts"
        )
    literal = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{literal}:{port}").geturl(), parts.netloc


async def _resolve(host: str, port: int) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ToolUnavailable(f"{host} cannot be resolved: {error.strerror or error}") from error
    return str(found[0][4][0]).split("%")[0]


def _public(address: str) -> bool:
    """Whether an address is one of the open internet, IPv4 within IPv6 looked through."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo and parsed.teredo[1])
        if inner:
            return inner.is_global and parsed.is_global
    return parsed.is_global and not parsed.is_multicast


def _refused(response: httpx2.Response) -> ToolUnavailable | ToolRejected:
    kind = ToolUnavailable if response.status_code in _BUSY else ToolRejected
    return kind(f"the server answered {response.status_code}", details={"status": response.status_code})


def _parsed(response: httpx2.Response) -> Any:
    kind = response.headers.get("content-type", "").split(";")[0].strip()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return json.loads(response.content)
        except ValueError as error:
            raise OutputInvalid(f"the answer calls itself {kind} and is not JSON: {error}") from error
    return response.text


def _shown(url: str) -> str:
    """The URL without its query, which may hold what must not be logged."""
    return url.split("?", 1)[0].split("#", 1)[0]
