"""Which hosts the tools may reach: the guard against requests forged from within (SSRF).

Loopback, link-local and private addresses are refused unless the operator or the catalog entry allows the host.
The check stands where the connection is made: the name is resolved once, every address it has is judged, and the
connection goes to one of those. So neither a second DNS answer, nor a redirect, nor another reading of the URL can
lead elsewhere. A client's connections serve those alone who are allowed the same hosts.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore2
import httpx2

from engine.errors import InputInvalid, ToolRejected

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_WITHIN = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # a public address in name: Azure answers its machines there
        "192.88.99.0/24",  # RFC 7526: relays of 6to4, given up
        "3fff::/20",  # RFC 9637: documentation
    )
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA gives out of IPv6 for the open internet
_CONNECTIONS, _IDLE_SECONDS = 100, 30.0

Hosts = frozenset[str]
"""Hosts whose private addresses may be reached: `name` at any port, or `name:port`."""


def hosts(given: Iterable[str]) -> Hosts:
    """Allowed hosts as they are compared: without case, blanks, and the root's dot."""
    return frozenset(_plain(one) for one in given if one.strip())


def open_client(allowed: Hosts) -> httpx2.AsyncClient:
    """A client whose every connection is guarded. It keeps no cookies, follows nothing and heeds no proxy.

    A connection serves one request: what a server sends beyond the length it said would be read as the next answer.
    """
    return client_over(GuardedTransport(allowed, idle=0))


def client_over(transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncClient:
    """The same over a transport that is guarded already."""
    nothing = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx2.AsyncClient(
        transport=transport,
        cookies=nothing,  # the jar is one for all pipelines: what it kept would go from one to another
        follow_redirects=False,
        trust_env=False,
    )


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """httpx2's own transport over a pool that connects by way of the guard."""

    def __init__(self, allowed: Hosts, *, idle: int) -> None:
        # httpx2 has no parameter for the network backend; httpcore2's pool, which is all it holds, has one.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_authorities(),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=idle,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=_GuardedBackend(allowed),
        )


@cache
def _authorities() -> ssl.SSLContext:
    """Whom TLS trusts, read once per process; SSL_CERT_FILE may name a company's own authority."""
    return httpx2.create_ssl_context()


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Opens TCP connections to addresses that were judged, in the resolver's order."""

    def __init__(self, allowed: Hosts) -> None:
        self.allowed = allowed
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to `host`. Raises ToolRejected for one that may not be reached, httpcore2.ConnectError."""
        failure: httpcore2.ConnectError | None = None
        for address in await addresses(host, port, self.allowed):
            try:
                return await self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore2.ConnectError as error:
                failure = error
        raise failure or httpcore2.ConnectError(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        """Between the pool's own attempts."""
        await self._sockets.sleep(seconds)


async def addresses(host: str, port: int, allowed: Hosts) -> list[str]:
    """The addresses of `host`, all of them judged.

    One private address among public ones refuses the whole name: which of them a connection reached would be left
    to chance, or to whoever answers for the name. Raises ToolRejected, InputInvalid for what is no name, and
    httpcore2.ConnectError for one that is not known.
    """
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise InputInvalid(f"{host} is no name of a host: a label of it is empty or too long") from error
    except OSError as error:
        raise httpcore2.ConnectError(f"{host} cannot be resolved: {error.strerror or error}") from error
    every = list(dict.fromkeys(str(one[4][0]) for one in found))
    named = _plain(host)
    if allowed.isdisjoint((named, f"{named}:{port}", f"[{named}]:{port}")) and not all(map(public, every)):
        raise ToolRejected(
            f"{host} is a private or local address; an operator may allow the host "
            "with DUEWORK_HTTP_ALLOW or in the catalog entry's allow_hosts"
        )
    return every


def public(address: str) -> bool:
    """Whether an address is one of the open internet; an IPv4 address within IPv6 is looked through."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(parsed in network for network in _WITHIN):
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _NAT64:
            return public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)))
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo and parsed.teredo[1])
        if inner:
            return public(str(inner)) and parsed.is_global
        return parsed in _UNICAST and parsed.is_global
    return parsed.is_global and not parsed.is_multicast


def _plain(host: str) -> str:
    return host.strip().lower().rstrip(".")
