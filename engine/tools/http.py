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
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from engine.errors import InputInvalid, OutputInvalid, Problem, ToolRejected, ToolTimeout, ToolUnavailable
from engine.tools.calls import Arguments, Call
from engine.tools.entry import ToolEntry

MAX_RESPONSE = 4 * 1024 * 1024
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
"""Headers that say how the request is cut into bytes; the client writes them, whatever the caller says."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA gives out of IPv6 for the open internet


def faults(entry: ToolEntry) -> Iterator[Problem]:
    """An http tool that has no URL could be listed and never called."""
    if not str(entry.endpoint).startswith(("http://", "https://")):
        text = "transport http needs an endpoint that begins with http:// or https://"
        yield Problem("invalid_endpoint", text, "/endpoint")


class HttpTools:
    """One pooled client per process. `allowed` are hosts whose private addresses may be reached."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = frozenset(host.lower() for host in allowed)
        # The pool knows connections by address, and the address is all that the URL has left here: a TLS connection
        # whose certificate was checked for one name must not serve another name on the same address.
        self._tls = httpx2.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            limits=httpx2.Limits(max_connections=100, max_keepalive_connections=0),
        )
        self._client = httpx2.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            limits=httpx2.Limits(max_connections=100, max_keepalive_connections=20),
        )

    async def close(self) -> None:
        """Close the pooled connections."""
        await self._client.aclose()
        await self._tls.aclose()

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

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Any:
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
        content = arguments.get("body")
        try:
            request = self._client.build_request(
                method,
                target,
                headers=_headers(arguments.get("headers", {}), host, call),
                params=arguments.get("params"),
                json=arguments.get("json"),
                content=content.encode() if content is not None else None,
                extensions={"sni_hostname": urlsplit(url).hostname or ""},
                timeout=call.timeout.total_seconds(),
            )
            return await self._read(request)
        except (httpx2.InvalidURL, httpx2.LocalProtocolError, UnicodeError) as error:
            raise InputInvalid(f"{method} {_shown(url)} cannot be asked like this: {error}") from error
        except httpx2.DecodingError as error:
            raise OutputInvalid(f"{method} {_shown(url)}: the answer cannot be decoded: {error}") from error
        except httpx2.TimeoutException as error:
            raise ToolTimeout(f"{method} {_shown(url)} did not answer within {call.timeout}") from error
        except httpx2.TransportError as error:
            raise ToolUnavailable(f"{method} {_shown(url)}: {type(error).__name__}: {error}") from error

    async def _read(self, request: httpx2.Request) -> httpx2.Response:
        """Send and read the answer, stopping at MAX_RESPONSE bytes whatever its headers say."""
        client = self._tls if request.url.scheme == "https" else self._client
        response = await client.send(request, stream=True)
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


def _headers(given: Mapping[str, str], host: str, call: Call) -> dict[str, str]:
    """The caller's headers, and ours over them: names are compared without case, and each is sent once."""
    named = {name.lower(): value for name, value in given.items() if name.lower() not in _FRAMING}
    return {
        "user-agent": "duework",
        **named,
        "host": host,
        "idempotency-key": call.idempotency_key,
        "duework-fence": str(call.fence),
        "duework-run": str(call.run_id),
    }


async def _checked(url: str, allowed: frozenset[str]) -> tuple[str, str]:
    """The URL with its host replaced by a checked address, and the Host header's value."""
    try:
        parts = urlsplit(url)
        given, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError as error:  # a port out of range, a bracket left open, a label that is empty or too long
        raise InputInvalid(f"{_shown(url)} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InputInvalid(f"{_shown(url)} is not an http or https URL")
    if "@" in parts.netloc:
        raise InputInvalid("credentials belong into the headers as ${secrets.NAME}, not into the URL")
    port = given or (443 if parts.scheme == "https" else 80)
    address = await _resolve(host, port)
    if host not in allowed and not _public(address):
        raise ToolRejected(
            f"{host} is a private or local address; an operator may allow the host "
            "with DUEWORK_HTTP_ALLOW or in the catalog entry's allow_hosts"
        )
    target = parts._replace(netloc=f"{_bracketed(address)}:{port}").geturl()
    return target, _bracketed(host) if given is None else f"{_bracketed(host)}:{given}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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
        if parsed in _NAT64:
            return _public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)))
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo and parsed.teredo[1])
        if inner:
            return inner.is_global and parsed.is_global and not inner.is_multicast
        return parsed in _UNICAST and parsed.is_global
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
