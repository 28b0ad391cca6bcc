"""The warden: a small program beside the worker that starts its tools' processes and sees to their end.

    worker ── door ──▶ warden ── fork ──▶ guard ── fork, exec ──▶ the tool's process and all that it starts
       └───────────── control ─────────────┘

One thread and no asyncio, so that forking is safe. Each process has a guard of its own, which adopts whatever its
process leaves behind (Linux's child subreaper) and kills all of it when the process has ended, when the worker asks,
and when the worker is gone: its end of `control` is closed then, kill -9 included.

It imports the standard library alone and is run by its path in an isolated interpreter: it starts in milliseconds,
and nothing of the user's is in it. Linux; elsewhere a process group is all that is killed.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from types import FrameType
from typing import Any

POLITELY = b"T"
"""What the worker sends for SIGTERM and a grace; anything else, and the end of its socket, is SIGKILL at once."""
_SUBREAPER = 36  # prctl(2)


def main() -> None:
    """Fork a guard for every four descriptors that come through the door (fd 0), until it is closed."""
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
    ):  # a stop of the service is the worker's to answer
        signal.signal(number, _pass)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # guards are not waited for
    door = socket.socket(fileno=0)
    _adopt(0)  # loads the C library here, and not in every guard
    gc.disable()  # a collection would write to pages that guards share with this process
    while True:
        word, descriptors, _, _ = socket.recv_fds(door, 1, 4)
        if not word:
            return
        with suppress(OSError):  # no process to be had: the worker sees its control socket closed
            if os.fork() == 0:
                try:
                    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
                    _guard(*descriptors)
                finally:
                    os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _pass(_number: int, _frame: FrameType | None) -> None:
    """A handler, because what is ignored would be ignored by the processes that we start, too."""


def _guard(control: int, stdin: int, stdout: int, stderr: int) -> None:
    """One process, from its start until nothing of it is left."""
    _adopt(1)
    channel = socket.socket(fileno=control)
    order = _order(channel)
    if order is None or select.select([channel], [], [], 0)[0]:
        return  # the worker has gone, or has given the process up while nobody was there to start it
    news, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, _pass)
    signal.set_wakeup_fd(wake)
    process, fault = _start(order, (stdin, stdout, stderr))
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    if process is None:
        _tell(channel, {"fault": fault})
        return
    _tell(channel, {"pid": process.pid})
    _watch(channel, news, process.pid, order["grace"])
    _tell(channel, {"code": _end(process.pid)})


def _order(channel: socket.socket) -> dict[str, Any] | None:
    """What to start: {argv, environment, cwd, grace in seconds}; None when the worker has gone."""
    header = _exactly(channel, 4)
    body = _exactly(channel, struct.unpack("!I", header)[0]) if header else b""
    order: dict[str, Any] | None = json.loads(body) if body else None
    return order


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = channel.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


def _tell(channel: socket.socket, news: dict[str, Any]) -> None:
    with suppress(OSError):  # nobody is left to hear it
        channel.sendall(json.dumps(news).encode() + b"\n")


def _start(order: dict[str, Any], streams: Sequence[int]) -> tuple[subprocess.Popen[bytes] | None, str]:
    """The new process, or why there is none.

    It leads a session, and so a group that can be killed. subprocess uses vfork, which copies no page tables, and
    resets our signal handlers.
    """
    stdin, stdout, stderr = streams
    try:
        return subprocess.Popen(  # noqa: S603  what the worker ordered; no shell is in between
            order["argv"],
            env=order["environment"],
            cwd=order["cwd"],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        ), ""
    except (OSError, ValueError) as error:
        place = getattr(error, "filename", None)
        return None, f"{place}: {error.strerror}" if place and isinstance(error, OSError) else str(error)


def _watch(channel: socket.socket, news: int, pid: int, grace: float) -> None:
    """Until the process has ended, or is to be killed."""
    end = float("inf")
    while not _ended(pid):
        left = end - time.monotonic()
        if left <= 0:
            return
        watched = [channel.fileno(), news]
        ready, _, _ = select.select(watched, [], [], None if left == float("inf") else left)
        if news in ready:
            os.read(news, 512)
        if channel.fileno() in ready:
            if _word(channel) != POLITELY:
                return
            _signal_group(pid, signal.SIGTERM)
            end = min(end, time.monotonic() + grace)


def _word(channel: socket.socket) -> bytes:
    try:
        return channel.recv(1)
    except OSError:
        return b""


def _ended(pid: int) -> bool:
    """Whether the process has ended; it is not reaped yet, so that its number stays its own. Orphans are reaped."""
    while True:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return False
        if found.si_pid == pid:
            return True
        os.waitpid(found.si_pid, 0)


def _end(pid: int) -> int:
    """Kill the group and every descendant, wherever it hides; the exit code, negative for a signal.

    Whoever loses its parent becomes our child, so a round of kills brings the next generation into view.
    """
    _signal_group(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            for child in _children():
                with suppress(
                    ProcessLookupError, PermissionError
                ):  # the latter: it has become another user's
                    os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)
    return os.waitstatus_to_exitcode(status)


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the latter where only zombies are left (BSD)
        os.killpg(pid, number)


def _children() -> Iterator[int]:
    """The ids of our children."""
    own = str(os.getpid())
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # "pid (comm) state ppid …": the name may hold blanks and brackets.
                if file.read().rpartition(b")")[2].split()[1].decode() == own:
                    yield int(name)


def _adopt(yes: int) -> None:
    """Whether descendants that lose their parent become our children."""
    if sys.platform == "linux":
        _library().prctl(_SUBREAPER, yes, 0, 0, 0)


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


if __name__ == "__main__":
    main()
