"""A real SMTP server on loopback that keeps what it takes, and misbehaves as the recipients' names say."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Taken:
    """A message as it arrived."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    content: bytes
    encrypted: bool
    user: str


@dataclass(slots=True)
class Sink:
    """The server; `release` lets the slow answers go, `waiting` says that one has begun."""

    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Event = field(default_factory=threading.Event)
    context: ssl.SSLContext | None = None

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """`450@…` is refused with that code, `slow@…` waits."""
        user = address.partition("@")[0]
        if user == "slow":
            await self._wait()
        if user.isdigit():
            return f"{user} 4.2.1 {address} is not to be had"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """`data552@…` is refused after the message, `broken@…` breaks off, `slowdata@…` waits."""
        users = [address.partition("@")[0] for address in envelope.rcpt_tos]
        for user in users:
            if user.startswith("data"):
                return f"{user[4:]} too much of it"
        if "slowdata" in users:
            await self._wait()
        content = cast(bytes, envelope.original_content)
        message = message_from_bytes(content, policy=policy.default)
        user_name = _user(session.auth_data)
        self.taken.append(
            Taken(
                str(envelope.mail_from),
                list(envelope.rcpt_tos),
                message,
                content,
                bool(session.ssl),
                user_name,
            )
        )
        if "broken" in users:
            cast(asyncio.WriteTransport, server.transport).abort()
        return "250 taken"

    async def _wait(self) -> None:
        self.waiting.set()
        await asyncio.to_thread(self.release.wait, 60)


class _Controller(Controller):
    def __init__(self, sink: Sink, **options: Any) -> None:
        self._options = options
        super().__init__(sink, hostname="127.0.0.1", port=0)

    def factory(self) -> SMTP:
        return SMTP(self.handler, hostname="sink.example.org", **self._options)

    def _trigger_server(self) -> None:
        """The port is any free one; the base class would ask the one that it was told."""
        self.port = cast(asyncio.Server, self.server).sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd leaves it untyped


@contextmanager
def mail_sink(*, tls: bool = False, login: bool = False) -> Iterator[Sink]:
    """A server with STARTTLS (and then only with it) or a login, as asked; `context` trusts its certificate."""
    sink = Sink()
    options: dict[str, Any] = {"enable_SMTPUTF8": True}
    if tls:
        authority = trustme.CA()
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(server)
        sink.context = ssl.create_default_context()
        authority.configure_trust(sink.context)
        options |= {"tls_context": server, "require_starttls": True}
    if login:
        options |= {"authenticator": _authenticate, "auth_required": True, "auth_require_tls": tls}
    controller = _Controller(sink, **options)
    controller.start()
    sink.port = controller.port
    try:
        yield sink
    finally:
        sink.release.set()
        controller.stop()


def _user(login: Any) -> str:
    """Who has logged in, or nobody."""
    return login.login.decode() if isinstance(login, LoginPassword) else ""


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
) -> AuthResult:
    right = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=right, handled=False, auth_data=data)
