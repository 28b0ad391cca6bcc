"""The client of a remote gate, against a real server that is slow, dead, wrong or lying: nothing passes unjudged."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from engine.errors import GateUnavailable
from engine.gate import client as client_module
from engine.gate.client import Remote, open_gate
from engine.metrics import Metrics
from engine.reflex.findings import UNKNOWN
from engine.retry import RetryPolicy, delay_after
from engine.settings import Settings
from tests.unit.gate.scripted import (
    Step,
    answering,
    finding,
    judged,
    response,
    saying,
    scripted,
    silent,
    stalling,
)

TEXT = "badge 20441 of zoe"
MAIL = "zoe.quick" + "@" + "fastmail.com"
TOKEN = "dw_hush_0f9a_hush"
QUICK = RetryPolicy(max_attempts=4, delay=timedelta(milliseconds=1), max_delay=timedelta(milliseconds=1))


@pytest.fixture(autouse=True)
def known_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret is there, and tries follow each other at once."""
    monkeypatch.setenv("DUEWORK_SECRET_REFLEX_TOKEN", TOKEN)
    monkeypatch.setattr(client_module, "RETRY", QUICK)


@asynccontextmanager
async def gate_at(url: str, **given: Any) -> AsyncIterator[Remote]:
    """A client with time enough for a slow machine, unless the test says otherwise."""
    settings = {"reflex_url": url, "reflex_timeout": timedelta(seconds=30), **given}
    async with open_gate(Settings(**settings), Metrics()) as remote:
        assert remote is not None
        yield remote


async def asked(remote: Remote, text: str = TEXT, seconds: float = 60) -> list[tuple[str, str, int, int]]:
    """What it finds: (category, kind, start, end)."""
    until = asyncio.get_running_loop().time() + seconds
    return [(hit.category, hit.kind, hit.start, hit.end) for hit in await remote.hits(text, until)]


async def refused(remote: Remote) -> GateUnavailable:
    with pytest.raises(GateUnavailable) as caught:
        await asked(remote)
    return caught.value


def state(remote: Remote) -> str:
    """As the property and the metric have it."""
    shown: str = remote.state
    return shown


async def test_there_is_none_where_none_is_named() -> None:
    """The gate in process needs no client."""
    async with open_gate(Settings(), Metrics()) as remote:
        assert remote is None


async def test_what_either_finds_counts() -> None:
    """The far one adds to the near one, which it cannot silence; a kind that only it knows says so."""
    text = f"{TEXT}, {MAIL}"
    here = ("pii", "email", len(TEXT) + 2, len(text))
    async with scripted(finding(("library_card", 6, 11)), finding()) as server, gate_at(server.url) as remote:
        assert await asked(remote, text) == [(UNKNOWN, "library_card", 6, 11), here]
        assert await asked(remote, text) == [here]
        assert server.texts == [text, text]


async def test_connections_are_kept_and_the_token_is_sent() -> None:
    """One connection for one call after the other; the path is added to what the URL has."""
    async with scripted(finding()) as server, gate_at(f"{server.url}/v1/") as remote:
        for _ in range(5):
            await asked(remote)
        assert (len(server.texts), server.connections) == (5, 1)
        assert {head[":start"] for head in server.headers} == {"POST /v1/reflex/process HTTP/1.1"}
        assert {head["authorization"] for head in server.headers} == {f"Bearer {TOKEN}"}


async def test_a_value_with_many_strings_goes_in_parts_that_nothing_crosses() -> None:
    """Places come back as those of the whole; a string that no part can hold is refused as it is."""
    strings = [f"{number:05} " + "x" * 30_000 for number in range(12)]
    text = "".join(f"{string}\0\n" for string in strings)

    async def step(part: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(response(json.dumps(judged(part, ("phone", 0, 5))).encode()))
        return True

    async with scripted(step) as server, gate_at(server.url) as remote:
        places = [place[2:] for place in await asked(remote, text) if place[1] == "phone"]
        assert [text[start:end] for start, end in places] == ["00000", "00003", "00006", "00009"]
        assert "".join(server.texts) == text
        with pytest.raises(GateUnavailable, match="1000001 characters"):
            await asked(remote, "x" * 1_000_001)
        assert await asked(remote, "\0\n\0\n") == []
        assert len(server.texts) == 4


async def test_half_a_sign_is_sent_as_one_sign() -> None:
    """Halves of surrogate pairs are none that UTF-8 carries, nor may two of them become one."""
    async with scripted(finding(("phone", 2, 3))) as server, gate_at(server.url) as remote:
        assert await asked(remote, "\ud83d\ude00x") == [("pii", "phone", 2, 3)]
        assert server.texts == ["\ufffd\ufffdx"]


WRONG: dict[str, Step] = {
    "html": answering(200, b"<html>all is well</html>", content_type="text/html"),
    "json by another name": answering(200, json.dumps(judged(TEXT)).encode(), content_type="text/plain"),
    "packed": answering(200, gzip.compress(json.dumps(judged(TEXT)).encode()), content_encoding="gzip"),
    "another text": answering(200, json.dumps(judged(TEXT + "!")).encode()),
    "outside": finding(("phone", 6, 400)),
    "cut json": answering(200, json.dumps(judged(TEXT)).encode()[:-3]),
    "huge": answering(200, b" " * 20_000 + json.dumps(judged(TEXT)).encode()),
    "no content": answering(204, b""),
    "redirect": answering(307, b"", location="/elsewhere"),
    "not found": answering(404),
    "no token": answering(401),
    "no scope": answering(403),
    "too large": answering(413),
}


@pytest.mark.parametrize("step", WRONG.values(), ids=WRONG.keys())
async def test_a_wrong_answer_is_none_and_is_not_asked_for_again(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same question would get the same answer; the message has neither the token nor what was said."""
    monkeypatch.setattr(client_module, "LARGEST_ANSWER", 10_000)
    async with scripted(step) as server, gate_at(server.url) as remote:
        error = await refused(remote)
        assert len(server.texts) == 1
        assert not any(word in str(error) for word in (TOKEN, "zoe", "all is well", "elsewhere"))


DEAD: dict[str, Step] = {
    "busy": answering(503, retry_after="86400"),
    "broken": answering(500),
    "too many": answering(429),
    "gone": saying(b""),
    "half a head": saying(b"HTTP/1.1 200 x\r\ncontent-"),
    "half a body": saying(response(json.dumps(judged(TEXT)).encode(), content_length="4000")),
    "no http": saying(f"220 {MAIL} ESMTP\r\n".encode()),
}


@pytest.mark.parametrize("step", DEAD.values(), ids=DEAD.keys())
async def test_a_service_that_is_not_well_gets_three_more_tries(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when it is well by then, all is well."""
    monkeypatch.setattr(client_module, "delay_after", lambda *_: timedelta(0))
    async with scripted(step) as server, gate_at(server.url) as remote:
        error = await refused(remote)
        assert len(server.texts) == 4
        assert MAIL not in str(error)
    async with scripted(step, step, step, finding()) as server, gate_at(server.url) as remote:
        assert await asked(remote) == []
        assert len(server.texts) == 4


async def test_a_gate_cannot_send_runs_away_for_a_day() -> None:
    """The wait that it asks for counts up to the breaker's own."""
    async with scripted(answering(503, retry_after="86400")) as server, gate_at(server.url) as remote:
        error = await refused(remote)
        assert error.retry_after == timedelta(seconds=60)
        assert len(server.texts) == 1  # a minute is more than the time there is


@pytest.mark.parametrize("step", [silent, stalling])
async def test_one_that_does_not_come_to_an_end_is_left(step: Step) -> None:
    """Without a first byte or without a last one: the try is over after its time."""
    quick = timedelta(seconds=0.05)
    async with scripted(step) as server, gate_at(server.url, reflex_timeout=quick) as remote:
        error = await refused(remote)
        assert "did not answer within" in str(error)


async def test_no_try_begins_that_the_time_is_too_short_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait before it would go beyond; and nothing is asked at all without any time."""
    monkeypatch.setattr(client_module, "RETRY", RetryPolicy(max_attempts=4, delay=timedelta(hours=1)))
    async with scripted(answering(500)) as server, gate_at(server.url) as remote:
        await refused(remote)
        with pytest.raises(GateUnavailable, match="no time left"):
            await asked(remote, seconds=0)
        assert len(server.texts) == 1


async def test_the_waits_between_tries_are_one_to_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the design has it, with jitter: not two calls wait alike."""
    monkeypatch.undo()
    waits = [
        delay_after(client_module.RETRY, attempt, str(key)).total_seconds()
        for attempt in (1, 2, 3)
        for key in range(50)
    ]
    assert 1 <= min(waits) < max(waits) <= 5
    assert len(set(waits)) > 100


async def test_after_five_failures_nobody_asks_until_it_has_rested() -> None:
    """Then three good calls, and it is as before; the state is in the metrics and the log."""
    with capture_logs() as logs:
        async with (
            scripted(answering(500)) as server,
            gate_at(server.url) as remote,
        ):
            await refused(remote)
            assert state(remote) == "closed"
            error = await refused(remote)
            assert len(server.texts) == 5  # the breaker cut the second call's tries short
            assert "left alone" in str(error)
            assert error.retry_after is not None
            assert state(remote) == "open"
            server.steps = [finding()]
            remote.breaker.open_for = 0.0  # the minute is over
            assert state(remote) == "half_open"
            for _ in range(3):
                assert await asked(remote) == []
            assert state(remote) == "closed"
    assert [line["event"] for line in logs] == ["gate.opened", "gate.closed"]


async def test_texts_that_it_does_not_take_do_not_open_the_breaker() -> None:
    """Whoever sends what is too large must not cut everybody else off."""
    async with scripted(*[answering(413)] * 8, finding()) as server, gate_at(server.url) as remote:
        for _ in range(8):
            assert "too large" in str(await refused(remote))
        assert await asked(remote) == []
        assert (len(server.texts), state(remote)) == (9, "closed")


async def test_nobody_listens() -> None:
    """A port that refuses is a failure like any other, and says no more than that."""
    async with scripted(finding()) as server:
        url = server.url
    async with gate_at(url) as remote:
        assert "ConnectError" in str(await refused(remote))


async def test_a_thread_may_wait_for_it() -> None:
    """What checks a definition works in a thread; the loop asks for it."""
    async with scripted(finding(("phone", 6, 11)), answering(404)) as server, gate_at(server.url) as remote:
        (hit,) = await asyncio.to_thread(remote.search, TEXT)
        assert (hit.kind, hit.start, hit.end) == ("phone", 6, 11)
        with pytest.raises(GateUnavailable):
            await asyncio.to_thread(remote.search, TEXT)


async def test_it_works_when_it_finds_what_any_gate_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that finds nothing is as good as none; one answer counts for some seconds."""
    canary = client_module.CANARY

    def right(writer_text: str) -> dict[str, Any]:
        answer = judged(writer_text, ("email", 5, 9))
        order = {
            "injection_type": "dan_variant",
            "severity": "High",
            "position": 0,
            "end": 4,
            "rule": "dan.x",
        }
        return answer | {"injection_detected": True, "injection_matches": [order]}

    async def well(text: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(response(json.dumps(right(text)).encode()))
        return True

    async with scripted(well, finding()) as server, gate_at(server.url) as remote:
        assert await remote.works()
        assert await remote.works()
        assert server.texts == [canary]
        monkeypatch.setattr(client_module, "FRESH", 0.0)
        assert not await remote.works()
    async with gate_at(server.url) as remote:
        assert not await remote.works()


async def test_a_token_that_is_none_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line break in it would be a header of its own; the message does not repeat it."""
    async with scripted(finding()) as server, gate_at(server.url) as remote:
        for token in ("hush\r\nx: y", "hüsh"):
            monkeypatch.setenv("DUEWORK_SECRET_REFLEX_TOKEN", token)
            error = await refused(remote)
            assert "REFLEX_TOKEN" in str(error)
            assert token not in str(error)
        monkeypatch.delenv("DUEWORK_SECRET_REFLEX_TOKEN")
        await asked(remote)
        assert [head.get("authorization") for head in server.headers] == [None]


async def test_only_a_certificate_that_is_trusted_is_spoken_to(tmp_path: Path) -> None:
    """Of an authority that nobody knows: refused before anything is sent, until the setting names it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with scripted(finding(), tls=context) as server:
        async with gate_at(server.url) as remote:
            assert "ConnectError" in str(await refused(remote))
            assert server.texts == []
        async with gate_at(server.url, reflex_ca=tmp_path / "ca.pem") as remote:
            assert await asked(remote) == []
