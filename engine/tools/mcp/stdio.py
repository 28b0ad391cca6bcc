"""An MCP server that is a program: JSON-RPC, one message a line, over its stdin and stdout.

The protocol is the SDK's; the process is the warden's, as those of all tools are: it has an environment of its own,
and it is gone with all that it started when its session is closed, and when the worker dies.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from engine.errors import ToolUnavailable
from engine.settings import command_environment
from engine.storable import storable
from engine.tools.children.pipes import Reading, shown
from engine.tools.children.processes import Process, Processes, no_room
from engine.tools.mcp.server import Reached

GRACE = 2.0
"""Seconds between the end of a server's stdin and SIGTERM, and again until SIGKILL."""
MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message; a server that sends more is ended."""
_PRINTED = 16_384
"""Bytes of stderr that are kept, from its end."""

Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]


class Words:
    """What is known of a server's end: how it ended, and what it printed last on stderr."""

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self.process: Process | None = None
        self._said = b""

    def take(self) -> bytes:
        """The last of what it printed, line ends included."""
        if self.reading is not None:
            self._said = (self._said + self.reading.take())[-_PRINTED:]
        return self._said

    def last(self, conceal: Callable[..., Any]) -> str:
        """Both, as a message may say them: masked, the last line alone."""
        ended = self.process.ended if self.process is not None else None
        how = f"; its program {ended.result()}" if ended is not None and ended.done() else ""
        said = shown(self.take(), conceal).rpartition("\n")[2]
        return how + (f"; its last words: {said}" if said else "")


@asynccontextmanager
async def stdio(
    reached: Reached, processes: Processes, words: Words, on_end: Callable[[], None]
) -> AsyncIterator[Streams]:
    """The message streams of a new process; `on_end` is called when it says no more. Raises ToolUnavailable."""
    server = reached.server
    environment = command_environment() | dict(reached.env)
    named = str(Path(server.cwd or "/", server.command[0])) if "/" in server.command[0] else server.command[0]
    program = shutil.which(named, path=environment.get("PATH", os.defpath))
    if program is None:
        raise ToolUnavailable(f"the program {server.command[0]} is not there or cannot be executed")
    with ExitStack() as stack:
        try:
            stdin, stdout = os.pipe(), os.pipe()
            words.reading = stack.enter_context(closing(Reading(_PRINTED, tail=True)))
        except OSError as error:
            raise no_room(error) from error
        theirs = (stdin[0], stdout[1], words.reading.writer)
        try:
            process = await processes.start(
                [program, *server.command[1:]], environment, theirs, cwd=server.cwd or "/", grace=GRACE
            )
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        words.process = process
        try:
            async with _pumped(stdout[0], stdin[1], on_end) as streams:
                yield streams
            await _left(process)
        finally:
            await asyncio.shield(process.end(politely=True))
            words.take()


async def _left(process: Process) -> None:
    """Its stdin is closed, by which a server knows to end."""
    await asyncio.wait({process.ended}, timeout=GRACE)


@asynccontextmanager
async def _pumped(stdout: int, stdin: int, on_end: Callable[[], None]) -> AsyncIterator[Streams]:
    """The SDK's streams over the worker's ends of the pipes, which are closed at the end."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=MAX_MESSAGE)
    reading, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(stdout, "rb", buffering=0)
    )
    writing, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(stdin, "wb", buffering=0)
    )
    sink = asyncio.StreamWriter(writing, protocol, None, loop)
    heard, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    sent, said = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_read, lines, heard, on_end)
            group.start_soon(_write, said, sink)
            try:
                yield received, sent
            finally:
                group.cancel_scope.cancel()
    finally:
        for stream in (heard, received, sent, said):
            stream.close()
        if not writing.is_closing():
            writing.abort()
        reading.close()


async def _read(
    lines: asyncio.StreamReader,
    heard: MemoryObjectSendStream[SessionMessage | Exception],
    on_end: Callable[[], None],
) -> None:
    """Hand on each message until the server says no more, or something that is far too long."""
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the session is closed
        async with heard:
            try:
                while line := await _line(lines):
                    await heard.send(_message(line))
            finally:
                on_end()


async def _line(lines: asyncio.StreamReader) -> bytes:
    try:
        return await lines.readline()
    except ValueError:  # longer than MAX_MESSAGE
        return b""


def _message(line: bytes) -> SessionMessage | Exception:
    """A line as a message; what is none is the SDK's to leave aside."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return _mended(line) or error


def _mended(line: bytes) -> SessionMessage | None:
    """A message without the halves of surrogate pairs that JavaScript leaves where it cuts a text."""
    try:
        return SessionMessage(
            jsonrpc_message_adapter.validate_python(storable(json.loads(line)), by_name=False)
        )
    except (ValueError, RecursionError):
        return None


async def _write(said: MemoryObjectReceiveStream[SessionMessage], sink: asyncio.StreamWriter) -> None:
    """Write each message as a line; a pipe that nobody reads any more ends it, and `_read` tells."""
    with suppress(OSError):
        async with said:
            async for one in said:
                text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
                sink.write(text.encode() + b"\n")
                await sink.drain()
