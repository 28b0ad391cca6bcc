"""The worker's ends of a child's pipes: what it prints, bounded, and what it is given to read.

Nothing here waits: the event loop calls when there is something to read or room to write, so a child that prints
without end or never reads costs the worker a bounded buffer and no more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from engine import reflex

CHUNK = 65_536
ROUNDS = 64
"""Chunks that one look at a pipe takes at most: a child may print faster than it is read."""
CUT = 4096
"""Bytes that are left out where a tail begins within a line that does not end."""
SHOWN = 4096
"""Characters of a child's words that an error or a log line holds."""


class Reading:
    """What comes out of a pipe: all of it up to `limit` bytes, or, with `tail`, the last of it.

    `writer` is the end for the child; the caller closes it once the child has it. Without `tail`, `on_full` is called
    at the first byte above the limit, and what comes then is read and thrown away.
    """

    def __init__(self, limit: int, *, tail: bool) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.limit = limit
        self.tail = tail
        self.full = False
        self.ended = False
        self.on_full: Callable[[], None] = lambda: None
        self._data = bytearray()
        self._cut = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.reader, self._read)

    def take(self) -> bytes:
        """What has come, which is forgotten here; a line whose beginning was cut off is left out."""
        for _ in range(ROUNDS):
            if self.ended or not self._read():
                break
        data = bytes(self._data)
        if self._cut:  # what is left of a secret there would not be recognised
            data = data.partition(b"\n")[2] or data[CUT:]
        self._data.clear()
        self._cut = False
        return data

    def close(self) -> None:
        """Stop reading."""
        if not self.ended:
            self.ended = True
            self._loop.remove_reader(self.reader)
        with suppress(OSError):
            os.close(self.reader)

    def _read(self) -> bool:
        """One chunk; whether there was any."""
        try:
            data = os.read(self.reader, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.ended = True
            self._loop.remove_reader(self.reader)
            return False
        if not self.full:
            self._keep(data)
        return True

    def _keep(self, data: bytes) -> None:
        self._data += data
        if len(self._data) <= self.limit:
            return
        if self.tail:
            self._cut = True
            del self._data[: -self.limit]
        else:
            self.full = True
            self.on_full()


class Feeding:
    """What goes into a pipe. `reader` is the end for the child; the caller closes it once the child has it."""

    def __init__(self, data: bytes) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        self._data = memoryview(data)
        self._loop = asyncio.get_running_loop()
        self._loop.add_writer(self.writer, self._write)
        self._open = True

    def close(self) -> None:
        """The child reads the end of the file."""
        if self._open:
            self._open = False
            self._loop.remove_writer(self.writer)
            os.close(self.writer)

    def _write(self) -> None:
        try:
            self._data = self._data[os.write(self.writer, self._data) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # a child need not read what it is given
            self._data = self._data[:0]
        if not self._data:
            self.close()


def as_it_is(value: Any, *, cut: bool = False) -> Any:  # noqa: ARG001  as `Call.conceal` is called
    """The value: what hides secrets where there are none."""
    return value


def shown(data: bytes | str, conceal: Callable[..., Any]) -> str:
    """A child's words as they may be stored and logged: without secrets, masked by the gate, the last of them."""
    if not data:
        return ""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    text = text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    # A line without its end: the process was killed while it wrote.
    hidden: str = conceal(text.strip(), cut=not text.endswith("\n"))
    masked = reflex.mask(hidden)
    return masked if len(masked) <= SHOWN else f"… {masked[-SHOWN:]}"
