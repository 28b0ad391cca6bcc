"""Child processes of a worker, started by its warden: fresh, in a group of their own, and gone when they shall be.

The worker runs threads and an event loop, from which forking is not safe; so the warden (warden.py)
forks. It is started with the first process and again when it has died.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ToolUnavailable
from engine.tools.children.warden import POLITELY

_WARDEN = Path(__file__).with_name("warden.py")
_PATIENCE = 5.0
"""Seconds beyond its grace after which a process that does not even end by SIGKILL is left to its guard."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: its exit code (negative: the signal that killed it), or why it never began."""

    code: int | None = None
    fault: str = ""

    def __str__(self) -> str:
        if self.code is None:
            return f"could not be started: {self.fault}"
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        return f"was ended by {_signal_name(-self.code)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has none
        return f"signal {number}"


def no_room(error: OSError) -> ToolUnavailable:
    """No descriptor or no process is to be had; later there may be."""
    return ToolUnavailable(f"no process can be started now: {error.strerror or error}")


class Process:
    """One process as the worker sees it: its guard's news, and the word that ends it."""

    def __init__(self, control: socket.socket, grace: float) -> None:
        self.pid: int | None = None
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.on_end: Callable[[], None] = lambda: None
        self._control = control
        self._grace = grace
        self._told = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(control, self._listen)

    def stop(self, *, politely: bool = False) -> None:
        """SIGTERM and a grace, or SIGKILL at once, for the process and all that it has started."""
        with suppress(OSError):  # its guard is gone, and so is it
            self._control.send(POLITELY if politely else b"K")

    async def end(self, *, politely: bool = False) -> None:
        """Stop it, wait until nothing of it is left, and let go of it."""
        try:
            if not self.ended.done():
                self.stop(politely=politely)
                await asyncio.wait({self.ended}, timeout=self._grace + _PATIENCE)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it; its guard kills what is left."""
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control)
            self._control.close()

    def _listen(self) -> None:
        try:
            data = self._control.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._told = (self._told + data).split(b"\n")
        for line in lines:
            self._hear(**json.loads(line))
        if not data:
            self._loop.remove_reader(self._control)
            self._take_over()
            self._finish(Ending(fault="its guard has ended"))

    def _take_over(self) -> None:
        """A guard that was killed itself leaves its process to us; what is in other groups is lost sight of."""
        if self.pid is not None and not self.ended.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _hear(self, pid: int | None = None, fault: str = "", code: int | None = None) -> None:
        if pid is not None:
            self.pid = pid
        elif fault:
            self._finish(Ending(fault=fault))
        else:
            self._finish(Ending(code))

    def _finish(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)
            self.on_end()


class Processes:
    """Starts the processes of one worker."""

    def __init__(self) -> None:
        self._warden: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None

    async def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[int, int, int],
        *,
        cwd: str | None = None,
        grace: float = 0.0,
    ) -> Process:
        """A process whose stdin, stdout and stderr are `streams`; argv[0] is a path. Raises ToolUnavailable.

        Nobody has waited for it to begin: if it could not, it has `ended` with the reason.
        """
        order = {"argv": list(argv), "environment": dict(environment), "cwd": cwd, "grace": grace}
        body = json.dumps(order).encode()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            self._send([theirs.fileno(), *streams], ours)
        process = Process(ours, grace)
        try:
            with suppress(OSError):  # its guard is gone already; `ended` says so
                await asyncio.get_running_loop().sock_sendall(ours, struct.pack("!I", len(body)) + body)
        except asyncio.CancelledError:
            process.close()
            raise
        return process

    async def close(self) -> None:
        """End the warden; processes end with their own control sockets."""
        if self._door is not None:
            self._door.close()
        if self._warden is not None:
            await asyncio.to_thread(self._warden.wait)
        self._door = self._warden = None

    def _send(self, descriptors: Sequence[int], ours: socket.socket) -> None:
        """Hand descriptors to the warden, to a new one if there is none or it has died."""
        for _ in range(2):
            door = self._opened()
            try:
                socket.send_fds(door, [b"+"], list(descriptors))
                return
            except BlockingIOError:
                break  # hundreds of starts lie there unread
            except OSError:
                self._bury()
        ours.close()
        raise ToolUnavailable("no process can be started now: the warden of this worker does not answer")

    def _opened(self) -> socket.socket:
        if self._door is None:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            with theirs:
                # -I and -S: no variable, no folder and no site of anybody's reaches it, and it starts in milliseconds.
                self._warden = subprocess.Popen(  # noqa: S603  our own program, by its path
                    [sys.executable, "-I", "-S", "-X", "utf8", str(_WARDEN)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={},
                    cwd=os.sep,
                    start_new_session=True,
                )
            self._door = ours
        return self._door

    def _bury(self) -> None:
        assert self._door is not None
        assert self._warden is not None
        self._door.close()
        self._warden.kill()
        self._warden.wait()
        self._door = self._warden = None
