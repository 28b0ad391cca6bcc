"""Programs as tools: an argument list, never a shell; JSON on stdin and stdout.

An element `{"$input": "/pointer"}` of the list becomes exactly one argument, the input's text, number or boolean
there, whatever it holds: no blank or quote splits it, and none that begins with a dash passes for an option unless
the entry says `--` before it or gives it a prefix. The environment is the entry's own. A call that is cancelled ends
with SIGTERM, a short grace and SIGKILL for the program and all that it has started.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

from engine import telemetry
from engine.errors import (
    InputInvalid,
    OutputInvalid,
    Problem,
    ToolError,
    ToolRejected,
    ToolTimeout,
    ToolUnavailable,
)
from engine.settings import CALL_VARIABLES, PREFIX, Settings, command_environment
from engine.tools.calls import Answer, Arguments, Call
from engine.tools.children.pipes import Feeding, Reading, shown
from engine.tools.children.processes import Ending, Processes, no_room
from engine.tools.entry import ToolEntry

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
EXIT_CODES: Mapping[str, str] = {"0": "ok", "75": "unavailable"}
"""What an exit code means unless the entry says otherwise: 75 is EX_TEMPFAIL of sysexits.h. All others are a no."""
KINDS: Mapping[str, type[ToolError]] = {
    "unavailable": ToolUnavailable,
    "rejected": ToolRejected,
    "input_invalid": InputInvalid,
    "timeout": ToolTimeout,
}
_PRINTED = 65_536
"""Bytes of stderr that are kept, from its end."""


def faults(entry: ToolEntry) -> Iterator[Problem]:
    """What the schema of an entry does not say of a command. Whether the program is there: `CommandTools.faults`."""
    if f"tool:{entry.address}" not in entry.scopes:
        text = f'a command is not for everybody: say scopes: ["tool:{entry.address}"]'
        yield Problem("missing_scope", text, "/scopes")
    for name in sorted({*entry.options.get("environment", {}), *entry.secrets} & CALL_VARIABLES):
        yield Problem("reserved", f"{name} is set for each call; choose another name", "/command/environment")


class CommandTools:
    """The programs that a worker may run."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self.settings = settings
        self._processes = processes
        self._places = asyncio.Semaphore(max(1, settings.concurrency))
        self._log = telemetry.logger("tools.command")

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Answer:
        """What the program answers on stdout: JSON, or text without its last line ends.

        Raises ToolError by the exit code, ToolUnavailable when it was killed by a signal, OutputInvalid when stdout is
        too large or not what was promised, InputInvalid for arguments that cannot be one.
        """
        if not self.settings.command_tools:
            raise ToolRejected(
                f"{entry.address} is a command, and this worker runs none (DUEWORK_COMMAND_TOOLS)"
            )
        environment = _environment(entry, call)
        program = _program(entry, environment)
        argv = [program, *_arguments(entry.endpoint[1:], arguments, call)]
        async with AsyncExitStack() as pipes:
            await pipes.enter_async_context(self._places)
            try:
                feeding = pipes.enter_context(closing(Feeding(json.dumps(arguments).encode())))
                output = pipes.enter_context(closing(Reading(self.settings.max_output_bytes, tail=False)))
                errors = pipes.enter_context(closing(Reading(_PRINTED, tail=True)))
                ending = await self._run(entry, argv, environment, (feeding, output, errors))
            except OSError as error:
                raise no_room(error) from error
            printed = shown(errors.take(), call.conceal)
            self._log_printed(entry, call, printed)
            data = output.take()
            _check(entry, ending, printed, output)
            return _answer(entry, data)

    async def faults(self, entries: Sequence[ToolEntry]) -> list[Problem]:
        """Which programs and folders of these entries are not here; nothing where commands are not allowed."""
        if not self.settings.command_tools:
            return []
        return [problem for entry in entries for problem in _missing(entry)]

    async def close(self) -> None:
        """A command lives no longer than its call."""

    async def _run(
        self,
        entry: ToolEntry,
        argv: Sequence[str],
        environment: Mapping[str, str],
        pipes: tuple[Feeding, Reading, Reading],
    ) -> Ending:
        """Start the program and wait until nothing of it is left."""
        feeding, output, errors = pipes
        try:
            process = await self._processes.start(
                argv,
                environment,
                (feeding.reader, output.writer, errors.writer),
                cwd=entry.options.get("cwd", "/"),
                grace=GRACE,
            )
        finally:
            for descriptor in (feeding.reader, output.writer, errors.writer):
                os.close(descriptor)
        output.on_full = process.stop
        try:
            return await asyncio.shield(process.ended)
        finally:
            await process.end(politely=True)

    def _log_printed(self, entry: ToolEntry, call: Call, text: str) -> None:
        if text:
            run_id, step = str(call.run_id), call.step
            self._log.info("tool.printed", tool=entry.address, run_id=run_id, step=step, text=text)


def _missing(entry: ToolEntry) -> Iterator[Problem]:
    where = f"{entry.source}: {entry.address}"
    path = _path({**command_environment(), **entry.options.get("environment", {})})
    if shutil.which(entry.endpoint[0], path=path) is None:
        text = f"{where}: the program {entry.endpoint[0]} is not there or cannot be executed (PATH: {path})"
        yield Problem("missing_program", text, "/endpoint/0")
    folder = entry.options.get("cwd")
    if folder is not None and not Path(folder).is_dir():
        yield Problem("missing_folder", f"{where}: the folder {folder} is not there", "/command/cwd")


def _environment(entry: ToolEntry, call: Call) -> dict[str, str]:
    """The whole environment of one call. Raises ValidationFailed for a secret that is not set."""
    secrets = call.secrets.reveal({name: call.secrets[name] for name in entry.secrets})
    return {**command_environment(), **entry.options.get("environment", {}), **secrets, **_told(call)}


def _told(call: Call) -> dict[str, str]:
    told = {
        "RUN_ID": call.run_id,
        "STEP": call.step,
        "ITEM": "" if call.item is None else call.item,
        "ATTEMPT": call.attempt,
        "IDEMPOTENCY_KEY": call.idempotency_key,
        "FENCE": call.fence,
        "TRACEPARENT": call.traceparent,
    }
    return {f"{PREFIX}{name}": str(value) for name, value in told.items()}


def _program(entry: ToolEntry, environment: Mapping[str, str]) -> str:
    """The path of the program. Raises ToolUnavailable: another worker, or this one later, may have it."""
    found: str | None = shutil.which(entry.endpoint[0], path=_path(environment))
    if found is None:
        raise ToolUnavailable(f"the program {entry.endpoint[0]} of {entry.address} is not on this worker")
    return found


def _path(environment: Mapping[str, str]) -> str:
    return environment.get("PATH", os.defpath)


def _arguments(
    elements: Sequence[str | Mapping[str, str]], arguments: Arguments, call: Call
) -> Iterator[str]:
    """One argument for each element."""
    options_end = False
    for element in elements:
        if isinstance(element, str):
            options_end = options_end or element == "--"
            yield element
            continue
        pointer, prefix = element["$input"], element.get("prefix", "")
        text = _text(_at(arguments, pointer), pointer)
        if text.startswith("-") and not prefix and not options_end:
            raise _refused(pointer, "begins with a dash and would be taken for an option", "say -- before it")
        if call.conceal(text) != text:
            mending = "list it in the entry's secrets, and the program has it as a variable"
            raise _refused(pointer, "holds a secret, which every user of the host can read there", mending)
        yield prefix + text


def _at(value: Any, pointer: str) -> Any:
    """The value at an RFC 6901 pointer."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise _refused(pointer, "is not there", "give it a default in the input_schema")
    return value


def _text(value: Any, pointer: str) -> str:
    """The text of an argument, as JSON writes numbers and booleans."""
    if isinstance(value, dict | list) or value is None:
        raise _refused(
            pointer, "is neither text nor a number nor a boolean", "the program finds all of it on stdin"
        )
    text: str = value if isinstance(value, str) else json.dumps(value)
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise _refused(pointer, "holds what no argument can: NUL, or half of a surrogate pair", "take it out")
    return text


def _refused(pointer: str, what: str, mending: str) -> InputInvalid:
    text = f"the input at {pointer or '/'} is an argument of the command and {what}; {mending}"
    return InputInvalid(text, errors=[Problem("invalid_argument", text, pointer)])


def _check(entry: ToolEntry, ending: Ending, printed: str, output: Reading) -> None:
    """Raises what an ending means, unless it is well."""
    if output.full:
        raise OutputInvalid(
            f"{entry.address} wrote more than {output.limit} bytes (DUEWORK_MAX_OUTPUT_BYTES)"
        )
    last = printed.rpartition("\n")[2]
    text = f"{entry.address} {ending}: {last}" if last else f"{entry.address} {ending}"
    if ending.code is None:
        raise ToolUnavailable(text)
    if ending.code < 0:
        raise ToolUnavailable(text, details={"signal": -ending.code, "stderr": printed})
    meaning = {**EXIT_CODES, **entry.options.get("exit_codes", {})}.get(str(ending.code), "rejected")
    if meaning != "ok":
        raise KINDS[meaning](text, details={"exit_code": ending.code, "stderr": printed})


def _answer(entry: ToolEntry, data: bytes) -> Answer:
    try:
        text = data.decode()
        if entry.options.get("output") == "text":
            return text.rstrip("\r\n")
        return json.loads(text, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise OutputInvalid(f"{entry.address} wrote what is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        hint = "" if text.strip() else ": it wrote nothing"
        raise OutputInvalid(f"{entry.address} wrote what is not one JSON document{hint}") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
