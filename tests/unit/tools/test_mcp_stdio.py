"""MCP over stdio: real servers as processes, their environment, their end, and what is left of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from engine.errors import ToolError, ToolRejected, ToolUnavailable
from engine.secrets import Secrets
from engine.settings import Settings
from engine.tools.calls import Call
from engine.tools.children.processes import Processes
from engine.tools.entry import ToolEntry
from engine.tools.mcp.client import McpTools
from engine.tools.registry import parse_entry
from tests.polling import poll_until
from tests.source import ROOT
from tests.web import web_server

CALL = Call(UUID(int=7), "ask", "run:ask", fence=42, attempt=1, timeout=timedelta(seconds=60))
TIME = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "Europe/Chisinau"]
FETCH = [sys.executable, "-m", "mcp_server_fetch"]


@asynccontextmanager
async def opened() -> AsyncIterator[McpTools]:
    """A worker's tools; their servers have ended at the end."""
    processes = Processes()
    tools = McpTools(Settings(), processes)
    try:
        yield tools
    finally:
        await tools.close()
        await processes.close()


def entry(tool: str, *command: str, **mcp: Any) -> ToolEntry:
    """A catalog entry of a tool of the server that the command starts."""
    given = {"command": list(command), "cwd": str(ROOT), **mcp}
    members = {"address": "test.tool", "transport": "mcp", "endpoint": tool, "mcp": given}
    return parse_entry(members | {"input_schema": {}, "output_schema": {}}, "test.yaml")


def ours(tool: str, notes: Path, **mcp: Any) -> ToolEntry:
    """A tool of tests/mcp_server.py."""
    return entry(tool, sys.executable, "-m", "tests.mcp_server", str(notes), **mcp)


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


async def test_the_time_server() -> None:
    """`mcp-server-time` of the registry: a structured answer, and a refusal with its words."""
    async with opened() as tools:
        asked = entry("convert_time", *TIME)
        given = {"source_timezone": "Etc/UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
        answer = await tools.call(asked, given, CALL)
        assert answer["time_difference"] == "+9.0h"
        assert answer["target"]["datetime"].endswith("T21:00:00+09:00")
        with pytest.raises(ToolRejected, match="No time zone found with key Mars"):
            await tools.call(asked, given | {"target_timezone": "Mars"}, CALL)


async def test_the_fetch_server() -> None:
    """`mcp-server-fetch` of the registry: the text of a page, and what it says of one that is not there."""
    with web_server() as web:
        web.answers = {"/page": ("text/plain", b"a page of text")}
        given = {"url": f"{web.url}/page"}
        async with opened() as tools:
            fetch = entry("fetch", *FETCH, "--allow-private-ips", "--ignore-robots-txt")
            answer = await tools.call(fetch, given, CALL)
            assert "a page of text" in answer["content"][0]["text"]
            with pytest.raises(ToolRejected, match="404"):
                await tools.call(fetch, {"url": f"{web.url}/status/404"}, CALL)
    assert [asked.path for asked in web.asked] == ["/page", "/status/404"]


async def test_a_session_lasts_until_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls share a process, whose environment is its own; with it goes whatever it has started."""
    monkeypatch.setenv("DUEWORK_SECRET_OTHER", "not for servers")
    monkeypatch.setenv("HOME_OF_MINE", "neither")
    call = replace(CALL, secrets=Secrets({"KEY": "s3cr3t"}.get))
    given = {"KEY": "${secrets.KEY}", "PLAIN": "yes"}
    async with opened() as tools:
        pids = {
            answer["pid"]
            for answer in await asyncio.gather(
                *(tools.call(ours("echo", tmp_path, env=given), {"value": "x"}, call) for _ in range(20))
            )
        }
        environment = await tools.call(ours("environment", tmp_path, env=given), {}, call)
        child = (await tools.call(ours("spawn", tmp_path, env=given), {}, call))["result"]
        assert len(pids) == 1
        assert environment.items() >= {"KEY": "s3cr3t", "PLAIN": "yes"}.items()
        assert not {"DUEWORK_SECRET_OTHER", "HOME_OF_MINE", "DUEWORK_DATABASE_URL"} & set(environment)
        assert all(map(alive, (*pids, child)))
    assert not any(map(alive, (*pids, child)))


async def test_a_cancelled_call_is_told_to_the_server(tmp_path: Path) -> None:
    """By notifications/cancelled; the session goes on."""
    async with opened() as tools:
        first = (await tools.call(ours("echo", tmp_path), {"value": ""}, CALL))["pid"]
        running = asyncio.create_task(tools.call(ours("wait", tmp_path), {}, CALL))
        await poll_until(lambda: (tmp_path / "waiting").exists())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await poll_until(lambda: (tmp_path / "cancelled").exists())
        assert (await tools.call(ours("echo", tmp_path), {"value": ""}, CALL))["pid"] == first


async def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    """Calls under way fail with its last words; the next ones go to a new process at once, as the old one was good."""
    async with opened() as tools:
        first = (await tools.call(ours("echo", tmp_path), {"value": ""}, CALL))["pid"]
        waiting = asyncio.create_task(tools.call(ours("wait", tmp_path), {}, CALL))
        await poll_until(lambda: (tmp_path / "waiting").exists())
        with pytest.raises(ToolUnavailable, match="the last words"):
            await tools.call(ours("die", tmp_path), {}, CALL)
        with pytest.raises(ToolUnavailable):
            await waiting
        second = (await tools.call(ours("echo", tmp_path), {"value": ""}, CALL))["pid"]
        assert second != first
        assert not alive(first)
        os.kill(second, 9)  # while nobody asks: nobody notices
        await poll_until(lambda: all(session.over for session in tools._sessions.values()))
        assert (await tools.call(ours("echo", tmp_path), {"value": ""}, CALL))["pid"] not in (first, second)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-program"], "no-such-program is not there"),
        ([sys.executable, "-c", "import sys; sys.exit('cannot begin')"], "cannot begin"),
        ([sys.executable, "-c", "print('hello')"], "ended"),
        ([sys.executable, "-c", "while True: print('{}')"], "session within"),
    ],
)
async def test_a_program_that_is_no_server(
    command: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unavailable with the reason, and then not before a pause has passed."""
    if "while True" in command[-1]:
        monkeypatch.setattr("engine.tools.mcp.session.OPENING", 1.0)
    async with opened() as tools:
        with pytest.raises(ToolUnavailable, match=words):
            await tools.call(entry("x", *command), {}, CALL)
        with pytest.raises(ToolError):
            await tools.call(entry("x", *command), {}, CALL)


async def test_nothing_outlives_a_killed_worker(tmp_path: Path) -> None:
    """kill -9 of the worker ends its servers and what they started."""
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], cwd=ROOT)
    try:
        await poll_until((tmp_path / "pids").exists)
        pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
        assert len(pids) == 2
        assert all(map(alive, pids))
    finally:
        worker.kill()
        worker.wait()
    await poll_until(lambda: not any(map(alive, pids)))


WORKER = """
import asyncio, sys
from pathlib import Path
from tests.unit.tools.test_mcp_stdio import CALL, opened, ours
async def main():
    notes = Path(sys.argv[1])
    async with opened() as tools:
        server = (await tools.call(ours("echo", notes), {"value": ""}, CALL))["pid"]
        child = (await tools.call(ours("spawn", notes), {}, CALL))["result"]
        (notes / "new").write_text(f"{server} {child}")
        (notes / "new").rename(notes / "pids")
        await asyncio.Event().wait()
asyncio.run(main())
"""
