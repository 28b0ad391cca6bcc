"""Python functions as tools: called in child processes that can be killed, never within the worker.

A child is a fresh interpreter that answers one call after another; it is given up after `python_calls` calls, above
`python_memory_bytes`, and when it has been idle for `python_idle`. There are as many as the worker runs at once, at
most. A call that is cancelled (its timeout, the run's end, a lost lease) kills its child with all that it has
started, and returns when they are gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import engine
from engine import telemetry
from engine.errors import OutputInvalid, Problem, ToolError, ToolUnavailable
from engine.retry import asked_for
from engine.settings import Settings, tool_environment
from engine.tools.calls import Answer, Arguments, Call
from engine.tools.children.callee import KINDS
from engine.tools.children.pipes import Reading, as_it_is, shown
from engine.tools.children.processes import Ending, Process, Processes, no_room
from engine.tools.entry import ToolEntry

_ROOT = str(Path(str(engine.__file__)).parents[1])
# -P: where the worker happens to stand is no place to import from.
_PROGRAM = (sys.executable, "-P", "-c", "from engine.tools.children.callee import main; main()")
_PRINTED = 65_536
"""Bytes of what a function prints that are kept until its call ends."""
_ENVELOPE = 65_536
"""Bytes around a result: how an error is described."""
_LEAVING = 2.0
"""Seconds that an interpreter has to end in order, once its socket is closed by either side."""
_IMPORT = 60.0
"""Seconds in which a function must have been imported when a catalog is checked."""


class _Gone(Exception):
    """The child will answer no more. `leaving`: it has closed its socket, so it is about to end by itself."""

    def __init__(self, *, leaving: bool) -> None:
        super().__init__()
        self.leaving = leaving


class _Child:
    """One interpreter: its socket, what it prints, and how often it has been called."""

    def __init__(self, process: Process, messages: socket.socket, printed: Reading, generation: int) -> None:
        self.generation = generation
        self.process = process
        self.messages = messages
        self.printed = printed
        self.calls = 0
        self.memory = 0
        self.whole = True
        self.idle: asyncio.TimerHandle | None = None
        process.on_end = self._hang_up
        if process.ended.done():
            self._hang_up()

    async def ask(self, request: bytes, limit: int) -> dict[str, Any]:
        """Its answer. Raises _Gone, and OutputInvalid for one of more than `limit` bytes."""
        loop = asyncio.get_running_loop()
        self.calls += 1
        try:
            await loop.sock_sendall(self.messages, struct.pack("!I", len(request)) + request)
            data = bytearray()
            while len(data) < 4 or len(data) - 4 < struct.unpack_from("!I", data)[0]:
                more = await loop.sock_recv(self.messages, 262_144)
                if not more:
                    raise _Gone(leaving=True)
                data += more
                if len(data) > limit:
                    raise OutputInvalid(f"the function's result has more than {limit} bytes")
            answer: dict[str, Any] = _checked(json.loads(data[4:]))
            self.memory, self.whole = int(answer["memory"]), bool(answer["whole"])
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:  # no answer of ours: its socket was written to
            raise _Gone(leaving=isinstance(error, OSError)) from error
        return answer

    async def end(self) -> Ending:
        """Kill it; how it had ended, if it had."""
        self._forget_idle()
        try:
            await self.process.end()
        finally:
            self.close()
        return self.process.ended.result() if self.process.ended.done() else Ending(fault="it does not end")

    def dismiss(self, left: Callable[[], None]) -> None:
        """Let it end in order, by the end of its socket, or be killed after a grace; then `left` is called."""
        self._forget_idle()
        self.messages.close()
        self.process.on_end = left
        if self.process.ended.done():
            left()
        else:
            self.process.stop(politely=True)

    def close(self) -> None:
        """Let go of it: its guard kills it."""
        self._forget_idle()
        self.process.close()
        self.messages.close()
        self.printed.close()

    def wake(self) -> None:
        """It is idle no longer. What a thread has printed meanwhile is nobody's: the next call is another run's."""
        self.printed.take()
        self._forget_idle()

    def _forget_idle(self) -> None:
        if self.idle is not None:
            self.idle.cancel()
            self.idle = None

    def _hang_up(self) -> None:
        """Whoever waits for its answer need not: a process that it forked may hold the socket open."""
        with suppress(OSError):
            self.messages.shutdown(socket.SHUT_RDWR)


class PythonTools:
    """The functions that a worker may call, and the children that call them."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self.settings = settings
        self._processes = processes
        self._places = asyncio.Semaphore(max(1, settings.concurrency))
        self._idle: list[_Child] = []
        self._leaving: set[_Child] = set()
        self._checking = asyncio.Semaphore(1)
        self._generation = 0
        self._log = telemetry.logger("tools.python")

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Answer:
        """The function's result, as JSON has it.

        Raises the ToolError that the function raised; ToolRejected for any other exception; ToolUnavailable when its
        process ended; OutputInvalid for a result that is not JSON or too large.
        """
        context = {
            "run_id": str(call.run_id),
            "step": call.step,
            "item": call.item,
            "attempt": call.attempt,
            "idempotency_key": call.idempotency_key,
            "fence": call.fence,
            "traceparent": call.traceparent,
            "secrets": call.secrets.reveal({name: call.secrets[name] for name in entry.secrets}),
        }
        answer = await self._asked(entry, call, {"arguments": arguments, "context": context})
        if "error" in answer:
            raise _error(answer["error"], call)
        return answer["value"]

    async def faults(self, entries: Sequence[ToolEntry]) -> list[Problem]:
        """What keeps the functions of these entries from being called: imports that fail, parameters that do not fit.

        They are imported in a child, one after the other. Children that were there before import no more: whoever reads
        a catalog anew means its code, too.
        """
        self._generation += 1
        while self._idle:
            self._dismiss(self._idle.pop())
        return [problem for entry in entries for problem in await self._faults(entry)]

    async def close(self) -> None:
        """End all children. Nothing is called any more."""
        while self._idle:
            self._dismiss(self._idle.pop())
        if self._leaving:
            await asyncio.wait({child.process.ended for child in self._leaving}, timeout=2 * _LEAVING)
        for child in tuple(self._leaving):
            child.close()

    async def _faults(self, entry: ToolEntry) -> list[Problem]:
        try:
            async with asyncio.timeout(_IMPORT):
                properties = list(entry.input_schema.get("properties", {}))
                answer = await self._asked(entry, None, {"properties": properties})
            found = [answer["error"]["message"]] if "error" in answer else answer["value"]
        except TimeoutError:
            found = [f"it could not be imported within {_IMPORT:.0f} seconds"]
        except ToolUnavailable as error:
            found = [error.message]
        where = f"{entry.source}: {entry.address}: {entry.endpoint}"
        return [
            Problem("invalid_function", f"{where}: {shown(each, as_it_is)}", "/endpoint") for each in found
        ]

    async def _asked(self, entry: ToolEntry, call: Call | None, request: Mapping[str, Any]) -> dict[str, Any]:
        """A child's answer; the child is given back afterwards, or killed unless it answered."""
        limit = self.settings.max_output_bytes
        body = json.dumps({"function": entry.endpoint, "limit": limit, **request}).encode()
        async with self._places if call else self._checking:  # a check waits for no calls
            child = await self._take()
            answered = False
            try:
                answer = await child.ask(body, limit + _ENVELOPE)
                answered = True
            except _Gone as gone:
                if gone.leaving:
                    await asyncio.wait({child.process.ended}, timeout=_LEAVING)
                raise await self._crash(child, entry, call) from gone
            finally:
                self._log_printed(child, entry, call)
                if answered:
                    self._give_back(child)
                else:
                    await child.end()
        return answer

    async def _crash(self, child: _Child, entry: ToolEntry, call: Call | None) -> ToolUnavailable:
        """Why a child did not answer. What it printed last is most of the reason."""
        ending = await child.end()
        conceal = call.conceal if call else as_it_is
        details: dict[str, Any] = {"printed": shown(child.printed.take(), conceal)}
        if ending.code is not None:
            details["exit_code" if ending.code >= 0 else "signal"] = abs(ending.code)
        last = details["printed"].rpartition("\n")[2]
        text = f"the process of {entry.endpoint} {ending}"
        return ToolUnavailable(f"{text}; its last words: {last}" if last else text, details=details)

    def _log_printed(self, child: _Child, entry: ToolEntry, call: Call | None) -> None:
        text = shown(child.printed.take(), call.conceal if call else as_it_is)
        if text:
            run_id, step = (str(call.run_id), call.step) if call else (None, None)
            self._log.info("tool.printed", tool=entry.address, run_id=run_id, step=step, text=text)

    async def _take(self) -> _Child:
        """The child that was used last and lives, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if not child.process.ended.done():
                child.wake()
                return child
            child.close()
        try:
            return await self._start()
        except OSError as error:
            raise no_room(error) from error

    async def _start(self) -> _Child:
        folders = [_ROOT, *filter(None, self.settings.python_path.split(os.pathsep))]
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                ours.setblocking(False)
                printed = Reading(_PRINTED, tail=True)
                undo.callback(printed.close)
                streams = (theirs.fileno(), printed.writer, printed.writer)
                try:
                    process = await self._processes.start(
                        [*_PROGRAM, *folders], tool_environment(), streams, cwd=os.getcwd(), grace=_LEAVING
                    )
                finally:
                    os.close(printed.writer)
            undo.pop_all()
        return _Child(process, ours, printed, self._generation)

    def _give_back(self, child: _Child) -> None:
        """Keep it for the next call, unless it is worn out."""
        settings = self.settings
        worn = child.calls >= settings.python_calls or child.memory > settings.python_memory_bytes
        old = child.generation != self._generation
        if worn or old or not child.whole or child.process.ended.done():
            self._dismiss(child)
            return
        self._idle.append(child)
        seconds = settings.python_idle.total_seconds()
        child.idle = asyncio.get_running_loop().call_later(seconds, self._retire, child)

    def _retire(self, child: _Child) -> None:
        self._idle.remove(child)
        self._dismiss(child)

    def _dismiss(self, child: _Child) -> None:
        """Give it up; it is waited for when the toolbox is closed, not before."""

        def left() -> None:
            self._leaving.discard(child)
            child.close()

        self._leaving.add(child)
        child.dismiss(left)


def _checked(answer: Any) -> dict[str, Any]:
    """The answer. Raises TypeError for what our program does not say: the user's code is in the same process."""
    told = answer.get("error", {"kind": "ToolError", "message": ""}) if isinstance(answer, dict) else {}
    forms = {"message": str, "details": dict, "retry_after": int | float | None}
    sound = told.get("kind") in KINDS and all(
        isinstance(told[k], form) for k, form in forms.items() if k in told
    )
    if not sound or not {"value", "error"} & answer.keys():
        raise TypeError("this is no answer")
    checked: dict[str, Any] = answer
    return checked


def _error(told: Mapping[str, Any], call: Call) -> ToolError:
    """What the function raised, in words that may be stored."""
    return KINDS[told["kind"]](
        shown(told["message"] + "\n", call.conceal),
        details=call.conceal(told.get("details", {})),
        retry_after=asked_for(told.get("retry_after")),
    )
