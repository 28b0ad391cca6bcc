"""Functions that tests call as python tools: well-behaved ones, and every way not to be."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from engine.errors import ToolRejected, ToolUnavailable
from engine.tools.children.callee import Context
from tests.polling import poll_until


class Busy(ToolUnavailable):
    """A class of the user's own."""


def add(left: int, right: int = 1) -> int:
    """A sum."""
    return left + right


async def add_later(left: int, right: int) -> int:
    """A sum that takes a turn of the loop; it leaves a task behind that never ends."""
    forgotten = asyncio.create_task(asyncio.Event().wait())
    await asyncio.wait({forgotten}, timeout=0)
    return left + right


def tasks_left() -> int:
    """Tasks of earlier calls that still live."""
    return sum(type(each).__name__ == "Task" and not each.done() for each in objects())


def objects() -> list[Any]:
    """What the collector knows."""
    import gc

    return gc.get_objects()


def echo(value: Any) -> Any:
    """The value."""
    return value


def told(context: Context) -> dict[str, Any]:
    """The circumstances of the call."""
    return {name: getattr(context, name) for name in Context.__slots__} | {"shown": repr(context)}


def surroundings() -> dict[str, Any]:
    """What the process is like."""
    return {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "threads": threading.active_count(),
        "modules": [name for name in sys.modules if name.startswith(("workers", "scheduler", "psycopg"))],
    }


def say(text: str, times: int = 1) -> int:
    """Print."""
    for _ in range(times):
        print(text)
    return os.getpid()


def read() -> str:
    """All of stdin."""
    return sys.stdin.read()


def refuse(text: str) -> None:
    """An exception of Python's."""
    raise ValueError(text)


def reject() -> None:
    """A no of duework's."""
    raise ToolRejected("not like this", details={"field": "x"})


def busy() -> None:
    """An error that may be tried again."""
    raise Busy("come back later")


def reject_oddly(how: str) -> None:
    """A no of duework's, made of what the types forbid."""
    circle: dict[str, Any] = {}
    circle["self"] = circle
    odd: dict[str, dict[str, Any]] = {
        "message": {"message": ValueError("boom")},
        "keys": {"details": {(1, 2): 3}},
        "circle": {"details": circle},
        "details": {"details": "text"},
        "number": {"retry_after": 5},
        "forever": {"retry_after": timedelta.max},
        "past": {"retry_after": timedelta(seconds=-5)},
        "word": {"retry_after": "soon"},
    }
    raise Busy(**{"message": "odd", **odd[how]})


def speechless() -> None:
    """An exception that cannot say what it is."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("nothing")

    raise Mute


def leave(code: int) -> None:
    """End the process."""
    print("my last words", file=sys.stderr)
    sys.exit(code)


def vanish(number: int) -> None:
    """End the process by a signal."""
    os.kill(os.getpid(), number)
    threading.Event().wait()


def crash() -> None:
    """A fault in C."""
    ctypes.string_at(0)


def unstorable() -> Any:
    """A result that is not JSON."""
    return {"when": object()}


def infinite() -> float:
    """A number that JSON does not have."""
    return float("inf")


def long_text(size: int) -> str:
    """A result of that size."""
    return "x" * size


def hang(path: str, *, stubborn: bool = True) -> None:
    """Never end, with a child in the group, one in a session of its own, and one that a double fork hid."""
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pids = [
        os.getpid(),
        *(
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=own).pid
            for own in (False, True)
        ),
    ]
    pids.append(hidden())
    place = Path(path)
    place.with_suffix(".new").write_text(json.dumps(pids))
    place.with_suffix(".new").rename(place)
    threading.Event().wait()


def hidden() -> int:
    """The pid of a process whose parent has ended and that leads a session of its own."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(writer, str(pid).encode())
            os._exit(0)
        signal.pause()
    pid = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    return pid


def fork_and_return() -> str:
    """Two processes come back out of it."""
    return "parent" if os.fork() else "child"


def leave_a_process() -> int:
    """A process that outlives the call, as long as the interpreter lives."""
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE).pid


def at_exit(path: str) -> None:
    """Write a file when the interpreter ends in order."""
    atexit.register(lambda: Path(path).write_text("in order"))


async def wait_for(path: str) -> None:
    """Wait until there is such a file; say that it waits by another."""
    Path(f"{path}.waiting").touch()
    await poll_until(Path(path).exists)


def close_stdout() -> str:
    """Nothing can be printed afterwards."""
    os.close(1)
    return "closed"


def write_everywhere() -> None:
    """Garbage into every descriptor that is a socket."""
    for descriptor in range(3, 64):
        try:
            with socket.socket(fileno=os.dup(descriptor)) as found:
                found.sendall(b"\x00\x00\x00\x09[garbage]" * 3)
        except OSError:
            continue
    threading.Event().wait()


def pretend(text: str) -> None:
    """An answer of one's own."""
    answer = text.encode()
    for descriptor in range(3, 64):
        try:
            with socket.socket(fileno=os.dup(descriptor)) as found:
                found.sendall(len(answer).to_bytes(4, "big") + answer)
        except OSError:
            continue
    threading.Event().wait()


def print_later(text: str) -> None:
    """Print when the call is over."""
    threading.Thread(target=lambda: (signal.sigtimedwait([], 0.05), print(text)), daemon=True).start()


def close_everything() -> None:
    """Even the socket that the answer was to go through."""
    os.closerange(3, 64)


def grow(size: int) -> int:
    """Use memory; the interpreter's pid."""
    return os.getpid() if len(bytearray(size)) == size else 0


def positional(value: int, /) -> int:
    """A parameter that has no name for callers."""
    return value


NOT_A_FUNCTION = 3
