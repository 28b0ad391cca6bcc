"""email.send against a real SMTP server: what arrives, who is refused, and which failures may be tried again."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid, ToolError, ToolRejected, ToolTimeout, ToolUnavailable
from engine.secrets import Secrets
from engine.settings import Settings
from engine.tools.builtin.email import EmailTools, compose
from engine.tools.calls import Call
from tests.mail import PASSWORD, Sink, mail_sink
from tests.polling import poll_until

CALL = Call(UUID(int=7), "tell", "run:tell", fence=1, attempt=1, timeout=timedelta(seconds=20))
MAIL: dict[str, Any] = {"to": "ada@example.org", "subject": "It is done", "text": "All 3 of them."}
NOW = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[Sink]:
    """One plain server for the module."""
    with mail_sink() as sink:
        yield sink


@pytest.fixture
def sink(server: Sink) -> Sink:
    """The server, with nothing taken yet."""
    server.taken.clear()
    return server


def tools(sink: Sink, **given: Any) -> EmailTools:
    """The tool for a server on loopback."""
    told = {"smtp_host": "127.0.0.1", "smtp_port": sink.port, "smtp_tls": "none", **given}
    return EmailTools(Settings(**told), sink.context)


async def test_a_message_arrives_whole(sink: Sink) -> None:
    """Text, HTML and attachments; Bcc is in the envelope and in no header."""
    answer = await tools(sink).send(
        {
            "to": ["Ada Lovelace <ada@example.org>", "bob@example.org"],
            "cc": "cora@example.org",
            "bcc": ["dan@example.org", "ada@example.org"],
            "reply_to": "desk@example.org",
            "from": "Düework <jobs@example.com>",
            "subject": "Grüezi, it is done",
            "text": "Füür\n.\nend",
            "html": "<p>Füür</p>",
            "attachments": [
                {"filename": "a.csv", "text": "n\n1\n"},
                {"filename": "ü.bin", "base64": base64.b64encode(b"\x00\xff").decode()},
            ],
        },
        CALL,
    )
    (taken,) = sink.taken
    message = taken.message
    assert (answer["recipients"], answer["message_id"]) == (4, message["Message-ID"])
    assert (taken.sender, taken.recipients[0], len(taken.recipients)) == (
        "jobs@example.com",
        "ada@example.org",
        4,
    )
    assert message["To"] == "Ada Lovelace <ada@example.org>, bob@example.org"
    assert (message["Subject"], message["Cc"], message["Bcc"]) == (
        "Grüezi, it is done",
        "cora@example.org",
        None,
    )
    assert message["From"].addresses[0].display_name == "Düework"
    assert (message["Idempotency-Key"], message["Auto-Submitted"]) == ("run:tell", "auto-generated")
    body, markup = message.get_body(("plain",)), message.get_body(("html",))
    assert body is not None
    assert markup is not None
    assert body.get_content().splitlines() == ["Füür", ".", "end"]
    assert markup.get_content().splitlines() == ["<p>Füür</p>"]
    names = [(part.get_filename(), part.get_content_type()) for part in message.iter_attachments()]
    assert names == [("a.csv", "text/csv"), ("ü.bin", "application/octet-stream")]
    assert b"dan@" not in taken.content
    assert taken.content.isascii()


async def test_every_try_of_a_step_is_the_same_message(sink: Sink) -> None:
    """The same idempotency key makes the same Message-ID, another key another one."""
    tool = tools(sink)
    for call in (CALL, replace(CALL, attempt=2, fence=9), replace(CALL, idempotency_key="run:tell:1")):
        await tool.send(MAIL, call)
    first, second, other = (taken.message["Message-ID"] for taken in sink.taken)
    assert first == second != other
    assert first.endswith("@localhost>")


@pytest.mark.parametrize(
    ("user", "kind", "code"),
    [
        ("450", ToolUnavailable, 450),
        ("550", ToolRejected, 550),
        ("421", ToolUnavailable, 421),
        ("data452", ToolUnavailable, 452),
        ("data552", ToolRejected, 552),
    ],
)
async def test_the_reply_code_decides_about_a_retry(
    sink: Sink, user: str, kind: type[ToolError], code: int
) -> None:
    """4xx may be tried again, 5xx not; and where one is refused, nobody gets the message."""
    with pytest.raises(kind) as refused:
        await tools(sink).send(MAIL | {"to": ["ada@example.org", f"{user}@example.org"]}, CALL)
    assert (type(refused.value), refused.value.details) == (kind, {"code": code})
    assert not sink.taken


async def test_a_server_that_breaks_off_leaves_a_doubt_and_says_so(sink: Sink) -> None:
    """After the last dot nobody knows; the error may be tried again and tells."""
    with pytest.raises(ToolUnavailable, match="may have been taken all the same"):
        await tools(sink).send(MAIL | {"to": "broken@example.org"}, CALL)
    assert sink.taken


async def test_no_server_is_unavailable() -> None:
    """Nobody listens there."""
    nobody = EmailTools(Settings(smtp_host="127.0.0.1", smtp_port=1, smtp_tls="none"))
    with pytest.raises(ToolUnavailable, match="cannot be reached"):
        await nobody.send(MAIL, CALL)


async def test_without_a_server_the_tool_is_off() -> None:
    """The error names the setting."""
    with pytest.raises(ToolRejected, match="DUEWORK_SMTP_HOST"):
        await EmailTools(Settings()).send(MAIL, CALL)


async def test_a_slow_server_is_a_timeout(sink: Sink) -> None:
    """The call ends with its time, whatever the server does."""
    with pytest.raises(ToolTimeout):
        await tools(sink).send(
            MAIL | {"to": "slow@example.org"}, replace(CALL, timeout=timedelta(seconds=0.3))
        )
    assert not sink.taken


async def test_a_cancelled_call_hangs_up_at_once() -> None:
    """Cancelling waits for no answer of the server, and the message is not sent."""
    with mail_sink() as sink:
        sending = asyncio.create_task(tools(sink).send(MAIL | {"to": "slow@example.org"}, CALL))
        await poll_until(sink.waiting.is_set)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not sink.release.is_set()
        sink.release.set()
    assert not sink.taken


async def test_starttls_and_a_login() -> None:
    """The password is the secret SMTP_PASSWORD, sent under TLS; it is masked in whatever comes back."""
    vault = Secrets({"SMTP_PASSWORD": PASSWORD}.get)
    with mail_sink(tls=True, login=True) as sink:
        tool = tools(sink, smtp_tls="starttls", smtp_user="jobs")
        await tool.send(MAIL, replace(CALL, secrets=vault))
        assert (sink.taken[0].encrypted, sink.taken[0].user) == (True, "jobs")
        wrong = replace(CALL, secrets=Secrets(lambda _: "wrong"))
        with pytest.raises(ToolRejected, match="refused to log in") as refused:
            await tool.send(MAIL, wrong)
        assert refused.value.details == {"code": 535}
        untrusting = EmailTools(tool.settings)
        with pytest.raises(ToolRejected, match="certificate is not trusted"):
            await untrusting.send(MAIL, replace(CALL, secrets=vault))
    assert len(sink.taken) == 1
    assert vault.conceal(f"it was {PASSWORD}") == "it was [SECRET:SMTP_PASSWORD]"


async def test_a_server_without_starttls_is_refused(sink: Sink) -> None:
    """Nothing goes in the clear because a server, or somebody between, does not offer better."""
    with pytest.raises(ToolRejected):
        await tools(sink, smtp_tls="starttls").send(MAIL, CALL)
    assert not sink.taken


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"subject": "a\r\nBcc: eve@example.org"}, "/subject"),
        ({"subject": "a\nb"}, "/subject"),
        ({"to": "ada@example.org\r\nBcc: eve@example.org"}, "/to/0"),
        ({"to": "ada@example.org, eve@example.org"}, "/to/0"),
        ({"to": "Ada\r\n <ada@example.org>"}, "/to/0"),
        ({"cc": ["ada@example.org", "<>"]}, "/cc/1"),
        ({"bcc": "ada"}, "/bcc/0"),
        ({"to": "a@b@c"}, "/to/0"),
        ({"to": "a@.example"}, "/to/0"),
        ({"from": "x@y\u2028z"}, "/from"),
        ({"reply_to": "ada@example.org\0"}, "/reply_to/0"),
        ({"attachments": [{"filename": "a\r\nX: y", "text": ""}]}, "/attachments/0/filename"),
        (
            {"attachments": [{"filename": "a", "content_type": "text/x\r\nX: y", "text": ""}]},
            "/attachments/0",
        ),
        ({"attachments": [{"filename": "a", "base64": "%%"}]}, "/attachments/0/base64"),
        ({"attachments": [{"filename": "a", "base64": "ä"}]}, "/attachments/0/base64"),
        (
            {"attachments": [{"filename": "a", "content_type": "message/delivery-status", "text": ""}]},
            "/attachments/0",
        ),
        ({"subject": "=?utf-8?q?x=0d=0aBcc:_eve@example.org?="}, "Subject"),
        ({"to": "=?utf-8?q?x=0d=0aBcc:_eve@example.org?= <ada@example.org>"}, "To"),
        ({"to": "a@example.org\uff20example.com"}, "/to/0"),
        ({"to": "a@example.org\uff0cb"}, "/to/0"),
        ({"to": "a@example.org\uff1e\xa8NOTIFY\uff1dNEVER"}, "/to/0"),
        ({"to": [], "cc": []}, "all empty"),
    ],
)
def test_what_would_begin_a_header_is_refused(wrong: dict[str, Any], pointer: str) -> None:
    """Nothing that an argument holds becomes a header or a recipient of its own; the place is named."""
    with pytest.raises(InputInvalid, match=pointer):
        compose({"attachments": [], **MAIL, **wrong}, "jobs@example.com", "k", NOW)


TEXTS = st.text(max_size=60) | st.lists(
    st.sampled_from(
        ["=?utf-8?q?", "=?utf-8?b?DQpCY2M6IGVAZS5lDQo=", "=0d=0aBcc:_e@e.e", "?=", " ", "x", "<e@e.e>"]
    )
).map("".join)


@given(st.fixed_dictionaries(dict.fromkeys(("to", "subject", "from", "text"), TEXTS)))
def test_no_text_makes_a_header_of_its_own(texts: dict[str, str]) -> None:
    """Whatever the texts, the message has our headers, or is refused."""
    try:
        mail = compose(texts, "jobs@example.com", "key", NOW)
    except InputInvalid:
        return
    ours = {
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Idempotency-Key",
        "Auto-Submitted",
        "Content-Type",
    }
    allowed = ours | {"Content-Transfer-Encoding", "MIME-Version"}
    assert set(message_from_bytes(mail.encoded()).keys()) <= allowed
    assert b"\n\n" not in mail.encoded().replace(b"\r\n", b"")


async def test_addresses_in_other_scripts(sink: Sink) -> None:
    """A domain is sent in its ASCII form; a user name needs a server that takes UTF-8."""
    await tools(sink).send(MAIL | {"to": "ada@zürich.example"}, CALL)
    await tools(sink).send(MAIL | {"to": "zoë@example.org"}, CALL)
    assert [taken.recipients for taken in sink.taken] == [["ada@xn--zrich-kva.example"], ["zoë@example.org"]]
