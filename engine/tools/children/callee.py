"""The program of a python tool's child process: it imports the user's functions and calls them, one at a time.

Messages are JSON after four bytes of length (big-endian), over a socket that it finds as its stdin and moves away
at once, so that nothing a function prints or reads is part of them. A request without `arguments` imports a
function and looks at its parameters; one with them calls it. Whatever the function raises is an answer; what ends
the process is for the worker to tell.
"""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import json
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from importlib import import_module
from types import TracebackType
from typing import Any

from engine.errors import (
    InputInvalid,
    OutputInvalid,
    ToolError,
    ToolRejected,
    ToolTimeout,
    ToolUnavailable,
)

KINDS: Mapping[str, type[ToolError]] = {
    kind.__name__: kind
    for kind in (InputInvalid, OutputInvalid, ToolError, ToolRejected, ToolTimeout, ToolUnavailable)
}
"""What a function may raise as its own answer; a subclass counts as the nearest of these."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a function gets that has a parameter `context`: the circumstances of this call.

    `idempotency_key` is the same for every try of a step, `fence` grows with every lease of a run, `item` is the
    place in a foreach's list or None, `traceparent` is W3C Trace Context, `secrets` are those that the tool's catalog
    entry lists.
    """

    run_id: str
    step: str
    item: int | None
    attempt: int
    idempotency_key: str
    fence: int
    traceparent: str
    secrets: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Function:
    call: Callable[..., Any]
    takes_context: bool


def main() -> None:
    """Answer requests until the worker closes its end. `sys.argv[1:]` are folders to import from, after all others."""
    sys.path.extend(folder for folder in sys.argv[1:] if folder not in sys.path)
    messages = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the worker's to answer; SIGKILL ends this
        signal.signal(number, lambda _number, _frame: None)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]  # they are text files
    faulthandler.enable()
    with asyncio.Runner() as runner:
        _serve(messages, runner)


def _serve(messages: socket.socket, runner: asyncio.Runner) -> None:
    born = os.getpid()
    while (request := _receive(messages)) is not None:
        answer = _answer(request, runner)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # the function has closed it
                stream.flush()
        if os.getpid() != born:  # the function forked, and this copy came back out of it
            os._exit(0)
        messages.sendall(struct.pack("!I", len(answer)) + answer)


def _receive(messages: socket.socket) -> dict[str, Any] | None:
    header = _exactly(messages, 4)
    if header is None:
        return None
    body = _exactly(messages, struct.unpack("!I", header)[0])
    request: dict[str, Any] | None = None if body is None else json.loads(body)
    return request


def _exactly(messages: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        more = messages.recv(size - len(data))
        if not more:
            return None
        data += more
    return bytes(data)


def _answer(request: Mapping[str, Any], runner: asyncio.Runner) -> bytes:
    """{value} or {error}; the most memory that this process has ever used, in bytes; whether it can still print."""
    try:
        answer = {"value": _work(request, runner)}
        text = _text(answer, request["limit"])
    except Exception as error:  # whatever the user's code raises is its answer
        if not isinstance(error, ToolError):
            traceback.print_exception(error.with_traceback(_theirs(error.__traceback__)))
        text = json.dumps({"error": _described(error)})
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    whole = json.dumps(_is_open(1) and _is_open(2))
    return f'{{"memory":{memory},"whole":{whole},{text[1:]}'.encode()


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's code on."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _work(request: Mapping[str, Any], runner: asyncio.Runner) -> Any:
    function = _found(request["function"])
    if "arguments" not in request:
        return _misfits(function, request["properties"])
    given = dict(request["arguments"])
    if function.takes_context:
        given["context"] = Context(**request["context"])
    value = function.call(**given)
    return runner.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> Any:
    """An async function's result; what it left running is cancelled, so that it cannot disturb the next call."""
    try:
        return await value
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@cache
def _found(name: str) -> _Function:
    """The function at "package.module:function"; the attribute may be dotted."""
    module, _, path = name.partition(":")
    found = _imported(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} is not a function")
    return _Function(found, "context" in _parameters(found))


def _imported(module: str) -> Any:
    """The module; one that is not there is told with the way out, one that misses another as it says it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):
            way_out = "install it beside duework, or name its folder in DUEWORK_PYTHON_PATH"
            raise ModuleNotFoundError(f"{error}: {way_out}", name=error.name) from None
        raise


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """By name; none for what was written in C and does not say."""
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return {}


def _misfits(function: _Function, properties: list[str]) -> list[str]:
    """What is wrong between the function's parameters and the properties of its tool's input_schema."""
    parameters = _parameters(function.call)
    kinds = {parameter.kind for parameter in parameters.values()}
    found = []
    if not parameters or inspect.Parameter.VAR_KEYWORD in kinds:
        known = set(properties)
    else:
        known = {n for n, p in parameters.items() if p.kind is not inspect.Parameter.POSITIONAL_ONLY}
    found += [
        f"it has no parameter {name!r} for the input's {name!r}" for name in properties if name not in known
    ]
    for name, parameter in parameters.items():
        variable = parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        if (
            not variable
            and parameter.default is inspect.Parameter.empty
            and name not in (*properties, "context")
        ):
            found.append(f"its parameter {name!r} has no default and is no property of the input_schema")
    if function.takes_context and "context" in properties:
        found.append(
            "its parameter 'context' is given the call's circumstances; call the input's property otherwise"
        )
    return found


def _text(answer: Mapping[str, Any], limit: int) -> str:
    try:
        text = json.dumps(answer, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise OutputInvalid(f"the function's result is not JSON: {error}") from error
    if len(text) > limit:
        raise OutputInvalid(f"the function's result has more than {limit} bytes (DUEWORK_MAX_OUTPUT_BYTES)")
    return text


def _described(error: Exception) -> dict[str, Any]:
    name = type(error).__name__
    if not isinstance(error, ToolError):
        said = str(traceback.TracebackException.from_exception(error, limit=0))  # also where str() fails
        return {"kind": "ToolRejected", "message": f"{name}: {said}", "details": {"type": name}}
    kind = next(each.__name__ for each in type(error).__mro__ if each.__name__ in KINDS)
    after: Any = error.retry_after  # the user's code says what it likes
    seconds = after.total_seconds() if isinstance(after, timedelta) else after
    told = {"kind": kind, "message": str(error.message), "details": _as_json(error.details)}
    return told | ({"retry_after": seconds} if isinstance(seconds, int | float) else {})


def _as_json(details: Any) -> dict[str, Any]:
    """An error's details; as Python writes them where JSON cannot hold them."""
    try:
        found = json.loads(json.dumps(details, default=str))
    except (TypeError, ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"details": repr(details)}
