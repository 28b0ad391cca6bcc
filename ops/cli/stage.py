"""The ground that `up` and `demo` stand on: a migrated database, a free port, the environment of the children."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

import migrations
from engine.errors import StoreUnavailable
from engine.settings import EMBEDDED, Settings, child_environment
from ops import dev, embedded
from ops.cli.local import state_dir
from ops.cli.remote import DEVELOPMENT_TOKEN

READY_WITHIN = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything is decided, nothing runs yet but the database. `server` is ours, or None."""

    settings: Settings
    state: Path
    server: embedded.EmbeddedServer | None

    @property
    def url(self) -> str:
        """Where the API will answer."""
        return self.settings.url

    @property
    def development(self) -> bool:
        """Whether the seeded token is let in: our own database, this host alone."""
        return self.server is not None and self.settings.loopback

    def tree(
        self, workers: int, say: Callable[[str], None], echo: Callable[[str, str], None] | None = None
    ) -> dev.ProcessTree:
        """The processes, not started yet."""
        return dev.ProcessTree(dev.everything(workers), self._environment(), self.state / "logs", say, echo)

    def ready(self, tree: dev.ProcessTree, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Tend the tree until the API says that everything works; False when it does not within a minute."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and not given_up():
            tree.tend()
            if _answers(f"{self.url}/ready"):
                return True
            time.sleep(dev.LOOK)
        return False

    def revive(self, say: Callable[[str], None]) -> None:
        """Start our own database again if it has ended; what it had acknowledged is there."""
        if self.server is None or embedded.status(self.state) is not None:
            return
        say("PostgreSQL has ended and starts again")
        try:
            embedded.start(self.state)
        except StoreUnavailable as error:
            say(f"error: {error.message}")

    def places(self) -> list[str]:
        """Where things are, for people."""
        lines = [f"API     {self.url}", f"docs    {self.url}/docs", f"logs    {self.state / 'logs'}"]
        if self.server is not None:
            lines.append(f"psql    {self.psql()}")
        if self.development:
            lines.append(f"token   {DEVELOPMENT_TOKEN} (this host only)")
        else:
            lines.append("token   duework agent token system-agent --direct   makes the first one")
        if self.url != Settings().url:
            lines.append(f"command export DUEWORK_URL={self.url}")
        return lines

    def psql(self) -> str:
        """A command that opens psql on the embedded server; the password stays in its file."""
        assert self.server is not None
        where = f"-h {self.server.socket_dir} -p {self.server.port} -U {embedded.ROLE} {embedded.ROLE}"
        return f'PGPASSWORD="$(cat {self.state}/password)" psql {where}'

    def _environment(self) -> dict[str, str]:
        if self.development:
            return child_environment(self.settings, DUEWORK_SECRET_DUEWORK_TOKEN=DEVELOPMENT_TOKEN)
        return child_environment(self.settings)


@contextmanager
def open_stage(settings: Settings, say: Callable[[str], None]) -> Iterator[Stage]:
    """Prepare the database and a port; an embedded server that was started here is stopped afterwards."""
    state = state_dir(settings)
    own = settings.database_url == EMBEDDED
    found = embedded.status(state) if own else None
    server = (found or embedded.start(state)) if own else None
    try:
        yield Stage(_decided(settings, server, say), state, server)
    finally:
        if server is not None and found is None:
            embedded.stop(state)


def _decided(
    settings: Settings, server: embedded.EmbeddedServer | None, say: Callable[[str], None]
) -> Settings:
    port = dev.free_port(settings.host, settings.port)
    if port != settings.port:
        say(f"port {settings.port} is taken; the API takes {port}")
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 — compared, not bound
    settings = replace(settings, port=port, url=f"http://{host}:{port}")
    if server is not None:
        settings = replace(settings, database_url=server.url)
        if settings.loopback:
            settings = replace(
                settings, environment="development", http_allow=settings.http_allow or "127.0.0.1"
            )
    migrations.upgrade(settings.database_url)
    return settings


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False
