"""email.send: one message to one SMTP server, the operator's.

SMTP has no idempotency: a connection that breaks after the last dot leaves open whether the message was taken.
So Message-ID and Idempotency-Key are the same for every try of a step, and a receiver can drop the second one. A
message goes to all its recipients or to none: nothing is sent once one of them is refused.
"""

from __future__ import annotations

import base64
import mimetypes
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import aiosmtplib

from engine import reflex
from engine.errors import InputInvalid, ToolError, ToolRejected, ToolTimeout, ToolUnavailable
from engine.settings import LOOPBACK, Settings
from engine.tools.calls import Arguments, Call

PASSWORD = "SMTP_PASSWORD"  # noqa: S105 - the name of a secret
"""The secret that is given to the server where a user is set."""
MAX_BYTES = 10 * 1024 * 1024
"""Largest message, encoded."""
PORTS: Mapping[str, int] = {"starttls": 587, "tls": 465, "none": 25}

_FORM = policy.SMTP.clone(cte_type="7bit")  # what every server takes, those without 8BITMIME too
_SIGN = r"[^\s<>@,;:\"()\[\]\\\x00-\x20\x7f]"
_MAILBOX = re.compile(
    rf"(?:(?P<name>[^<>]*?)\s*<(?P<bracketed>{_SIGN}+@{_SIGN}+)>|(?P<bare>{_SIGN}+@{_SIGN}+))"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_TYPE = re.compile(
    r"(?!message/|multipart/)[a-z0-9.+-]+/[a-z0-9.+-]+", re.ASCII
)  # those two are made of parts
_BROKEN = re.compile(r"\r(?!\n)|(?<!\r)\n|\n(?![ \t]|\Z)")  # a line of a header that is not a folded one
_DOMAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_SHOWN = 200  # characters of a server's own words in an error


@dataclass(frozen=True, slots=True)
class Mail:
    """A message and its envelope."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage

    @property
    def ascii(self) -> bool:
        """Whether every server can take the addresses."""
        return all(address.isascii() for address in (self.sender, *self.recipients))

    def encoded(self) -> bytes:
        """The message as it is sent, lines ended by CRLF, seven bits wide."""
        return self.message.as_bytes(policy=_FORM.clone(utf8=not self.ascii))


class EmailTools:
    """Sends through the server that `settings` name; `context` replaces the system's idea of whom to trust."""

    def __init__(self, settings: Settings, context: ssl.SSLContext | None = None) -> None:
        self.settings = settings
        self.context = context

    async def send(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """{to, subject, text|html, cc?, bcc?, reply_to?, from?, attachments?} → {message_id, recipients}.

        Raises InputInvalid for what makes no message, ToolUnavailable (4xx, no connection) or ToolRejected (5xx) with
        `details.code`, ToolTimeout.
        """
        if not self.settings.smtp_host:
            raise ToolRejected("email.send is off here: set DUEWORK_SMTP_HOST where the workers run")
        mail = compose(arguments, self.settings.smtp_from, call.idempotency_key, datetime.now(UTC))
        content = mail.encoded()
        if len(content) > MAX_BYTES:
            raise InputInvalid(f"the message is {len(content)} bytes long, at most {MAX_BYTES} are sent")
        await self._deliver(mail, content, call)
        return {"message_id": mail.message["Message-ID"], "recipients": len(mail.recipients)}

    async def _deliver(self, mail: Mail, content: bytes, call: Call) -> None:
        client, stage = self._client(call), "connect"
        try:
            await client.connect()
            stage = "log in"
            await self._log_in(client, call)
            stage = "name the recipients"
            await _envelope(client, mail)
            stage = "hand over the message"
            await client.data(content)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _translated(error, stage, call) from error
        finally:
            client.close()  # at once, also when the run is cancelled: nobody waits for a goodbye

    def _client(self, call: Call) -> aiosmtplib.SMTP:
        mode = self.settings.smtp_tls
        return aiosmtplib.SMTP(
            hostname=self.settings.smtp_host,
            port=self.settings.smtp_port or PORTS[mode],
            timeout=call.timeout.total_seconds(),
            use_tls=mode == "tls",
            start_tls=mode == "starttls",
            tls_context=None if mode == "none" else self.context or ssl.create_default_context(),
        )

    async def _log_in(self, client: aiosmtplib.SMTP, call: Call) -> None:
        user = self.settings.smtp_user
        if not user:
            return
        if self.settings.smtp_tls == "none" and self.settings.smtp_host not in LOOPBACK:
            raise ToolRejected("a password is not sent without TLS: set DUEWORK_SMTP_TLS to starttls or tls")
        password = call.secrets.value(PASSWORD)
        if password is None:
            raise InputInvalid(f"secret {PASSWORD} is not set where this runs; DUEWORK_SMTP_USER needs it")
        await client.login(user, password)


def compose(arguments: Arguments, sender: str, key: str, now: datetime) -> Mail:
    """The message that `arguments` describe; `sender` is who it is from unless they say so.

    Raises InputInvalid for an address that is none and for signs that would begin a header of their own.
    """
    message = EmailMessage(policy=_FORM)
    author = _address(arguments.get("from") or sender, "/from")
    given = {
        name: _addresses(arguments.get(name, []), f"/{name}") for name in ("to", "cc", "bcc", "reply_to")
    }
    message["From"] = author
    for name, header in (("to", "To"), ("cc", "Cc"), ("reply_to", "Reply-To")):
        if given[name]:
            message[header] = given[name]
    message["Subject"] = _line(arguments.get("subject", ""), "/subject")
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<{uuid5(NAMESPACE_OID, key)}@{author.domain}>"
    message["Idempotency-Key"] = key
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday shall answer it
    _fill(message, arguments)
    everyone = dict.fromkeys(one.addr_spec for name in ("to", "cc", "bcc") for one in given[name])
    if not everyone:
        raise InputInvalid("to, cc and bcc are all empty: name a recipient")
    _check_headers(message)
    return Mail(author.addr_spec, tuple(everyone), message)


def _check_headers(message: EmailMessage) -> None:
    """Headers are read once more when they are set: an encoded word (RFC 2047) becomes what it encodes."""
    for part in message.walk():
        for name, value in part.items():
            written = _FORM.clone(utf8=True).fold(name, value), _FORM.fold(name, value)
            if _CONTROL.search(str(value) + _decoded(value)) or any(map(_BROKEN.search, written)):
                raise InputInvalid(f"an encoded word (=?…?=) in {name} stands for a line break or the like")


def _decoded(value: str) -> str:
    """What a receiver may read in a header; Pythons differ in the encoded words that they read themselves."""
    try:
        return str(make_header(decode_header(str(value))))
    except (HeaderParseError, LookupError, UnicodeError):  # no encoded word that anybody could read
        return ""


def _fill(message: EmailMessage, arguments: Arguments) -> None:
    text, html = arguments.get("text"), arguments.get("html")
    if text is not None:
        message.set_content(text)
    if html is not None and text is not None:
        message.add_alternative(html, subtype="html")
    elif html is not None:
        message.set_content(html, subtype="html")
    for number, given in enumerate(arguments.get("attachments", ())):
        name = _line(given["filename"], f"/attachments/{number}/filename")
        kind = given.get("content_type") or mimetypes.guess_type(name)[0] or ""
        if not _TYPE.fullmatch(kind):
            if "content_type" in given:
                raise InputInvalid(f"/attachments/{number}/content_type: {kind!r} is not like text/csv")
            kind = "application/octet-stream"
        main, sub = kind.split("/")
        message.add_attachment(_content(given, number), maintype=main, subtype=sub, filename=name)


def _content(given: Mapping[str, Any], number: int) -> bytes:
    if "text" in given:
        return str(given["text"]).encode()
    try:
        return base64.b64decode(given["base64"], validate=True)
    except ValueError as error:
        raise InputInvalid(f"/attachments/{number}/base64 is not Base64: {error}") from error


def _addresses(given: str | list[str], pointer: str) -> tuple[Address, ...]:
    listed = [given] if isinstance(given, str) else given
    return tuple(_address(text, f"{pointer}/{number}") for number, text in enumerate(listed))


def _address(text: str, pointer: str) -> Address:
    """One mailbox, `ada@example.org` or `Ada <ada@example.org>`; a domain in another script becomes its ASCII form."""
    match = _MAILBOX.fullmatch(_line(text, pointer).strip())
    if match is None:
        raise InputInvalid(f"{pointer} is not one address, like ada@example.org or Ada <ada@example.org>")
    user, _, domain = (match["bracketed"] or match["bare"]).partition("@")
    try:
        host = domain.encode("idna").decode()
        if not _DOMAIN.fullmatch(
            host
        ):  # IDNA turns other scripts' signs into <, > and @, which end an address
            raise ValueError(host)
        return Address((match["name"] or "").strip('" '), user, host)
    except (
        ValueError
    ) as error:  # a domain with empty or too long labels, a user name that no server could take
        raise InputInvalid(f"{pointer} is not an address") from error


def _line(text: str, pointer: str) -> str:
    """`text`, of which nothing can end a header's line."""
    if _CONTROL.search(text):
        raise InputInvalid(f"{pointer} holds a line break or another control character; it must be one line")
    return text


async def _envelope(client: aiosmtplib.SMTP, mail: Mail) -> None:
    """Name the sender and every recipient; the first refusal ends it, before anything is sent."""
    options, encoding = [], "ascii"
    if not mail.ascii:
        if client.is_ehlo_or_helo_needed:
            await client.ehlo()
        if not client.supports_extension("smtputf8"):
            raise ToolRejected("the server takes ASCII addresses only (no SMTPUTF8)")
        options, encoding = ["SMTPUTF8", "BODY=8BITMIME"], "utf-8"
    await client.mail(mail.sender, options=options, encoding=encoding)
    for recipient in mail.recipients:
        await client.rcpt(recipient, encoding=encoding)


def _translated(error: aiosmtplib.SMTPException | OSError, stage: str, call: Call) -> ToolError:
    """The class that decides about a retry: the server's own reply code (RFC 5321 section 4.2.1), never its words."""
    cause = error.__cause__ or error.__context__ or error
    if isinstance(error, aiosmtplib.SMTPResponseException):
        kind = ToolRejected if 500 <= error.code <= 599 else ToolUnavailable
        said = _shortened(error.message, call)
        return kind(f"the mail server refused to {stage}: {error.code} {said}", details={"code": error.code})
    if isinstance(error, ssl.SSLCertVerificationError) or isinstance(cause, ssl.SSLCertVerificationError):
        return ToolRejected("the mail server's certificate is not trusted here, or is another host's")
    doubt = "; the message may have been taken all the same" if stage.startswith("hand over") else ""
    if isinstance(error, TimeoutError):
        return ToolTimeout(f"the mail server did not answer in time, asked to {stage}{doubt}")
    if isinstance(error, OSError):
        return ToolUnavailable(f"the mail server cannot be reached, or broke off, asked to {stage}{doubt}")
    return ToolRejected(
        f"the mail server cannot do what is asked, to {stage}: {_shortened(str(error), call)}"
    )


def _shortened(text: str, call: Call) -> str:
    """A server's words as an error holds them, in one line; half of an address would not be recognised any more."""
    return reflex.mask(" ".join(str(call.conceal(text)).split()))[:_SHOWN]
