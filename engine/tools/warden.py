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
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

POLITELY = b"T"
"""What the worker sends for SIGTERM and a grace; anything else, and the end of its socket, is SIGKILL at once."""
_DEATH_SIGNAL, _SUBREAPER = 1, 36  # prctl(2)
_OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)


def main() -> None:
    """Fork a guard for every four descriptors that come through the door (fd 0), until it is closed."""
    for (
        number
    ) in _OURS:  # a Ctrl-C or a stop of the service is the worker's to answer; guards are not waited for
        signal.signal(number, signal.SIG_IGN)
    door = socket.socket(fileno=0)
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


def _guard(control: int, stdin: int, stdout: int, stderr: int) -> None:
    """One process, from its start until nothing of it is left."""
    _prctl(_SUBREAPER, 1)
    channel = socket.socket(fileno=control)
    order = _order(channel)
    if order is None:
        return
    news, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wake)
    for descriptor in (control, stdin, stdout, stderr):
        os.set_inheritable(descriptor, False)
    pid, fault = _start(order, (stdin, stdout, stderr))
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    _tell(channel, {"fault": fault} if fault else {"pid": pid})
    if not fault:
        _watch(channel, news, pid, order["grace"])
    code = _end(pid)
    _tell(channel, {"code": code})


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


def _start(order: dict[str, Any], streams: Sequence[int]) -> tuple[int, str]:
    """The new process's id, and why it could not become what was ordered."""
    report, word = os.pipe()  # closed by exec
    pid = os.fork()
    if pid == 0:
        try:
            _become(order, streams)
        except (OSError, ValueError) as error:
            place = getattr(error, "filename", None)
            text = f"{place}: {error.strerror}" if place and isinstance(error, OSError) else str(error)
            os.write(word, text.encode("utf-8", "replace"))
        finally:
            os._exit(127)
    os.close(word)
    with os.fdopen(report, "rb") as reader:
        return pid, reader.read().decode("utf-8", "replace")


def _become(order: dict[str, Any], streams: Sequence[int]) -> None:
    """In a session of its own, which makes its group killable; dead when its guard is killed."""
    os.setsid()
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    for number in _OURS:
        signal.signal(number, signal.SIG_DFL)
    for place, descriptor in enumerate(streams):
        os.dup2(descriptor, place)
    if order["cwd"] is not None:
        os.chdir(order["cwd"])
    os.execve(order["argv"][0], order["argv"], order["environment"])  # noqa: S606  no shell is wanted


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
                with suppress(ProcessLookupError):
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


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
