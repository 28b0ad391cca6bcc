"""Real worker and scheduler processes of a test: started, signalled, and ended with it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from engine.settings import Settings, child_environment
from tests.polling import poll_until

PATIENCE = 120.0
"""Seconds that a test waits for a process; a loaded machine of two cores needs several."""


def settings_for(database_url: str, **given: Any) -> Settings:
    """Settings with which everything happens within a second or two."""
    quick: dict[str, Any] = {
        "database_url": database_url,
        "lease_seconds": timedelta(seconds=1.5),
        "poll_interval": timedelta(seconds=0.2),
        "heartbeat_interval": timedelta(seconds=0.5),
        "tick_interval": timedelta(seconds=0.2),
        "reap_interval": timedelta(seconds=0.2),
        "rotation_interval": timedelta(seconds=1),
        "horizon": timedelta(seconds=3),
        "misfire_grace": timedelta(seconds=2),
        "drain_timeout": timedelta(seconds=5),
        "log_level": "DEBUG",
        "log_format": "json",
        "environment": "development",
    }
    return Settings(**quick | given)


@dataclass(slots=True)
class Member:
    """One process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        """Everything it has written."""
        return self.log.read_text(encoding="utf-8")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one event; a line that is still being written is left out."""
        lines = [line for line in self.text.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in map(json.loads, lines) if line["event"] == name]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def logged(self, name: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """The first line of that event, once it is there; fails at once when the process has ended."""

        def found() -> list[dict[str, Any]]:
            lines = self.events(name)
            assert lines or self.process.poll() is None, f"{self.name} ended:\n{self.text[-3000:]}"
            return lines

        return (await poll_until(found, timeout))[0]

    async def ended(self, timeout: float = PATIENCE) -> int:
        """Its exit code, once it has ended."""
        await poll_until(lambda: self.process.poll() is not None, timeout)
        return self.process.returncode

    async def kill(self) -> None:
        """kill -9: no handler runs, nothing is flushed."""
        self.signal(signal.SIGKILL)
        await self.ended()


@dataclass(slots=True)
class Crew:
    """The processes of one test; `settings` are theirs unless one is started with others."""

    settings: Settings
    logs: Path
    secrets: dict[str, str] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)

    async def worker(self, **given: Any) -> Member:
        """A worker process that has begun to lease."""
        member = self.start("workers.main", **given)
        await member.logged("worker.started")
        return member

    async def scheduler(self, **given: Any) -> Member:
        """A scheduler process that ticks."""
        member = self.start("scheduler.main", **given)
        await member.logged("scheduler.started")
        return member

    async def api(self, **given: Any) -> str:
        """An API process; the URL at which it listens."""
        member = self.start("ops.cli", "api", "--port", "0", **given)
        line = await member.logged("api.started")
        return f"http://{line['host']}:{line['port']}"

    def start(self, module: str, *arguments: str, **given: Any) -> Member:
        """`python -m module`; `given` are settings that differ."""
        name = f"{module.split('.')[0]}-{len(self.members)}"
        extra = {f"DUEWORK_SECRET_{key}": value for key, value in self.secrets.items()}
        environment = child_environment(replace(self.settings, **given), **extra)
        log = self.logs / f"{name}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], env=environment, stderr=stream, stdout=stream
            )
        self.members.append(Member(name, process, log))
        return self.members[-1]

    def text(self) -> str:
        """All logs together."""
        return "".join(member.text for member in self.members)

    async def end(self) -> None:
        """Stop everything: politely, then for good."""
        living = [member for member in self.members if member.process.poll() is None]
        for member in living:
            member.signal(signal.SIGCONT)
            member.signal(signal.SIGTERM)
        try:
            await asyncio.gather(*(member.ended(timeout=8) for member in living))
        except AssertionError:
            for member in living:
                member.process.kill()
                member.process.wait()


@asynccontextmanager
async def crew_of(settings: Settings, logs: Path) -> AsyncIterator[Crew]:
    """A crew that ends with the block."""
    crew = Crew(settings, logs)
    try:
        yield crew
    finally:
        await crew.end()
