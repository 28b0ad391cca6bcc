"""Who calls: bearer tokens to agents, and the development token that works nowhere but in development."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request

from engine.db import Connection
from engine.errors import AuthenticationFailed, Conflict
from engine.settings import LOOPBACK, Settings
from engine.store import agents
from engine.store.agents import Agent

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "x-forwarded-host")


def bearer(request: Request) -> str:
    """The token of the Authorization header. Raises AuthenticationFailed without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > 4096:
        raise AuthenticationFailed(
            "send the header `Authorization: Bearer <token>`; `duework agent token` makes one"
        )
    return token


async def authenticate(conn: Connection, request: Request, settings: Settings) -> Agent:
    """The agent that the request's token belongs to. Raises AuthenticationFailed."""
    token = bearer(request)
    if token == agents.SYSTEM_NAME:
        found = await agents.embedded_system(conn) if _in_development(request, settings) else None
    else:
        found = await agents.by_token(conn, token)
    if found is None:
        raise AuthenticationFailed(
            "the token is unknown, expired or revoked; `duework agent token` makes a new one"
        )
    return found


async def require_credentials(conn: Connection, settings: Settings) -> None:
    """Raises Conflict when the API would listen to other hosts although nobody could have a token."""
    if settings.loopback or await agents.any_token(conn):
        return
    raise Conflict(
        f"the API does not listen on {settings.host} while no agent has a token: make one with "
        "`duework agent token system-agent`, or leave DUEWORK_HOST at 127.0.0.1"
    )


def _in_development(request: Request, settings: Settings) -> bool:
    """Development mode, a loopback server, and a loopback client that means it.

    No proxy stands before it, and it asked for this host by a loopback name: a web page whose own name was
    pointed here (DNS rebinding) would send that name as Host, and its address as Origin.
    """
    proxied = any(name in request.headers for name in _FORWARDED)
    local = settings.environment == "development" and settings.loopback
    asked = [f"//{request.headers.get('host', '')}", *request.headers.getlist("origin")]
    meant = all(_hostname(each) in LOOPBACK for each in asked)
    return local and not proxied and meant and _loopback(request.client.host if request.client else "")


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
