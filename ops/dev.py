"""One process tree on one host: what `duework up` and `duework demo` start, tend and stop.

The children are duework's own commands, each in a process group of its own, so that Ctrl-C reaches this
process alone and it decides how they end. A child that ends by itself is started again, after a pause that
grows while it keeps failing. Children also end when this process is killed (see `end_with`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from engine.errors import StoreUnavailable

LOOK = 0.05  # seconds between two looks at the children
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds before a crashed child is started again
STEADY = 30.0  # a child that lived this long has recovered: the pauses begin anew
PARENT_DEATH_SIGNAL = 1  # prctl(2): PR_SET_PDEATHSIG
PORTS_TRIED = 100
TAIL = 20_000  # bytes at the end of a log in which its last words stand


@dataclass(frozen=True, slots=True)
class Child:
    """One command of the tree."""

    name: str
    arguments: tuple[str, ...]


@dataclass(slots=True)
class Member:
    """A child and its present process. `due` is when to start it next; None while it runs."""

    child: Child
    log: Path
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    due: float | None = 0.0
    failures: int = 0
    shown: int = 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass(slots=True)
class ProcessTree:
    """The children of one `up`. Nothing runs by itself: call `tend` again and again, then `stop`.

    `say` gets one line for each thing that a person wants to know; `echo`, where given, each new piece of the
    children's logs.
    """

    children: Sequence[Child]
    environment: Mapping[str, str]
    logs: Path
    say: Callable[[str], None]
    echo: Callable[[str, str], None] | None = None
    members: list[Member] = field(init=False)

    def __post_init__(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        self.members = [Member(child, self.logs / f"{child.name}.log") for child in self.children]
        for member in self.members:
            if member.log.exists():
                member.log.replace(member.log.with_suffix(".log.1"))
            member.log.touch(mode=0o600)

    def tend(self) -> None:
        """Start what is due, notice what has ended, pass on what was logged."""
        now = time.monotonic()
        for member in self.members:
            if member.due is not None and now >= member.due:
                self._start(member, now)
            elif member.due is None and not member.alive:
                self._ended(member, now)
            self._follow(member)

    def stop(self, patience: float, hurried: Callable[[], bool] = lambda: False) -> bool:
        """Ask every child to finish and wait; after `patience` seconds, or `hurried`, kill what is left.

        True when all of them ended by themselves.
        """
        deadline = time.monotonic() + patience
        self._signal(signal.SIGTERM)
        while any(member.alive for member in self.members):
            if time.monotonic() > deadline or hurried():
                self._signal(signal.SIGKILL)
                for member in self.members:
                    if member.process is not None:
                        member.process.wait()
                return False
            time.sleep(LOOK)
            for member in self.members:
                self._follow(member)
        return True

    def _start(self, member: Member, now: float) -> None:
        command = [sys.executable, "-P", "-m", "ops.cli", *member.child.arguments]
        with member.log.open("ab") as log:
            member.process = subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        member.since, member.due = now, None

    def _ended(self, member: Member, now: float) -> None:
        assert member.process is not None
        member.failures = 1 if now - member.since > STEADY else member.failures + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (member.failures - 1))
        member.due = now + pause
        self.say(
            f"{member.child.name} ended with {_ending(member.process.returncode)} and starts again "
            f"in {pause:g} s; see {member.log}"
        )
        if member.process.returncode > 0 and (reason := _last_words(member.log)):
            self.say(f"  {reason}")

    def _signal(self, number: signal.Signals) -> None:
        for member in self.members:
            if member.alive and member.process is not None:
                os.killpg(member.process.pid, number)

    def _follow(self, member: Member) -> None:
        if self.echo is None:
            return
        with member.log.open("rb") as log:
            log.seek(member.shown)
            lines = log.read()
        complete = lines[: lines.rfind(b"\n") + 1]
        member.shown += len(complete)
        for line in complete.decode(errors="replace").splitlines():
            self.echo(member.child.name, line)


def everything(workers: int) -> list[Child]:
    """The children of `duework up`: API, scheduler, and each worker process by itself."""
    worker = ("worker", "--processes", "1")
    numbered = [Child(f"worker-{number}", worker) for number in range(1, workers + 1)]
    return [Child("api", ("api",)), Child("scheduler", ("scheduler",)), *numbered]


def end_with(parent: int) -> None:
    """Have the kernel end this process, as by SIGTERM, when `parent` dies, `kill -9` included (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we could ask
        sys.exit(0)


def free_port(host: str, port: int) -> int:
    """`port`, or the next one on `host` that nobody listens at. Raises StoreUnavailable if there is none."""
    for candidate in range(port, min(port + PORTS_TRIED, 65_536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return candidate
    raise StoreUnavailable(f"no port from {port} on is free at {host}: choose one with --port")


@contextmanager
def signals() -> Iterator[Callable[[], int]]:
    """While the block runs, SIGINT and SIGTERM are counted instead of ending the process."""
    counted: list[int] = []

    def count(number: int, _frame: FrameType | None) -> None:
        counted.append(number)

    before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: len(counted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_words(log: Path) -> str:
    """The line by which a command says why it ends; nothing where it died without."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.startswith("error: ")), "")


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
