"""MCP servers that answer what they should not: each call still ends, as a class of the tree, and tells no secret."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import DueworkError, OutputInvalid, ToolError, ToolUnavailable
from engine.secrets import Secrets
from engine.tools.entry import ToolEntry
from tests.polling import poll_until
from tests.unit.tools.test_mcp_stdio import CALL, entry, opened

SECRET = "hush-hush-0f9a-and-some-more"
SERVER = r"""
import json, os, pathlib, sys
mode = sys.argv[1]
hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
def send(text):
    print(text, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    number, method = asked.get("id"), asked.get("method")
    if method == "initialize" and mode != "mute":
        send(json.dumps({"jsonrpc": "2.0", "id": number, "result": {} if mode == "hello" else hello}))
    elif method == "tools/call":
        given = asked["params"]["arguments"]
        if mode == "two":
            print("was asked for", json.dumps(given), file=sys.stderr, flush=True)
            pathlib.Path(given["mark"]).touch()
            if given["last"]:
                os._exit(1)
            continue
        filled = {"retry_after": "0", "message": "m", "data": "null"} | given
        error = '{"code": -32077, "message": %s, "data": %s}'
        error %= (filled["message"], '{"code": "unavailable", "retry_after": %s}' % filled["retry_after"])
        text = '{"content": [{"type": "text", "text": %s}], "isError": true}' % filled["message"]
        answer = '"error": ' + error if mode == "error" else '"result": ' + text
        send('{"jsonrpc": "2.0", "id": %s, %s}' % (json.dumps(number), answer))
    elif number is not None and mode != "mute":
        send(json.dumps({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "no"}}))
"""


def hostile(mode: str) -> ToolEntry:
    """A tool of a server that misbehaves like that."""
    return entry("any", sys.executable, "-c", SERVER, mode)


async def refused(mode: str, **arguments: Any) -> DueworkError:
    """What a call raises."""
    async with opened() as tools:
        with pytest.raises(DueworkError) as raised:
            await tools.call(hostile(mode), arguments, CALL)
    return raised.value


@pytest.mark.parametrize("seconds", ['"soon"', "1e300", "NaN", "-1", "[]", "1" * 400])
async def test_an_error_may_ask_for_any_wait(seconds: str) -> None:
    """Our own code of an error is as good in a server's mouth as any other: what makes no wait is none."""
    assert isinstance(await refused("error", message='"m"', retry_after=seconds), ToolError)


@pytest.mark.parametrize("mode", ["error", "result"])
async def test_half_of_a_surrogate_pair_ends_the_call(mode: str) -> None:
    """Programs in JavaScript write it where they cut a text: the message is read, and what is no text replaced."""
    error = await refused(mode, message=r'"cut \ud83d"')
    assert error.message.startswith("cut \ufffd")


@pytest.mark.parametrize("mode", ["error", "result"])
async def test_words_are_cut_after_secrets_are_hidden(mode: str) -> None:
    """A server's words are kept to a length, and a secret that stands across the cut leaves no half."""
    vault = Secrets({"KEY": SECRET}.get)
    sent = vault.reveal({"message": '"' + "x" * 990 + vault["KEY"] + "y" * 5_000_000 + '"'})
    async with opened() as tools:
        with pytest.raises(ToolError) as raised:
            await tools.call(hostile(mode), sent, replace(CALL, secrets=vault))
    assert SECRET[:4] not in raised.value.message
    assert len(raised.value.message) < 1100


async def test_a_runs_secrets_are_in_no_other_runs_error(tmp_path: Path) -> None:
    """What a server said of one run's call is told to another's when it dies, without the secrets of either."""
    vault = Secrets({"KEY": SECRET}.get)
    first = vault.reveal({"key": vault["KEY"], "mark": str(tmp_path / "first"), "last": False})
    async with opened() as tools:
        waiting = asyncio.create_task(tools.call(hostile("two"), first, replace(CALL, secrets=vault)))
        await poll_until((tmp_path / "first").exists)
        last = {"mark": str(tmp_path / "last"), "last": True}
        with pytest.raises(ToolUnavailable) as raised:
            await tools.call(hostile("two"), {**last, "key": SECRET}, CALL)
        with pytest.raises(ToolUnavailable):
            await waiting
    assert "was asked for" in raised.value.message
    assert SECRET not in raised.value.message


async def test_an_answer_that_opens_nothing_is_told_by_its_place() -> None:
    """What the server wrote there is not repeated."""
    error = await refused("hello")
    assert type(error) is OutputInvalid
    assert "not one to initialize: " in error.message
    assert "input_value" not in error.message


async def test_closing_waits_for_no_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stops while a session opens ends its server at once, however long it might take to open."""
    monkeypatch.setattr("engine.tools.mcp.session.OPENING", 100_000.0)
    async with asyncio.timeout(300), opened() as tools:
        calling = asyncio.create_task(tools.call(hostile("mute"), {}, CALL))
        await poll_until(lambda: tools._sessions)
        (session,) = tools._sessions.values()
        await tools.close()
        with pytest.raises(ToolUnavailable, match="closed"):
            await calling
        assert session.over
