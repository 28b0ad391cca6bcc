"""The catalog of a running process: its folder is looked at, and a change is taken over whole or not at all.

A changed folder is loaded beside the catalog in use. Without a fault it takes its place, for runs and requests that
begin from then on; with one the old catalog stays, and the log and the metrics say so until the folder is mended. Code
that entries name is not loaded anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from engine import telemetry
from engine.errors import ValidationFailed
from engine.metrics import Metrics
from engine.settings import Settings
from engine.tools.registry import Catalog, load_catalog

LOOK_EVERY = timedelta(seconds=2)
"""How often the folder is looked at."""

Marks = tuple[tuple[str, int, int, int], ...]


class LiveCatalog:
    """The catalog in use. `look` is called as a service; `admit` may refuse a new one, `changed` is told of it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Load the catalog. Raises ValidationFailed with all its faults."""
        self.settings = settings
        self.metrics = metrics
        self.admit: Callable[[Catalog], Awaitable[None]] = _admitted
        self.changed: Callable[[Catalog], None] = _untold
        self._seen = marks(settings.catalog)
        self.current = load_catalog(settings)
        self._log = telemetry.logger("tools.reload")

    async def look(self) -> None:
        """Take a changed folder over, if it is sound."""
        found = await asyncio.to_thread(marks, self.settings.catalog)
        if found == self._seen:
            return
        try:
            catalog = await asyncio.to_thread(load_catalog, self.settings)
            await self.admit(catalog)
        except (ValidationFailed, OSError) as error:
            self._seen = found
            self.metrics.catalog_refused.set(1)
            self._log.warning("catalog.reload_refused", error=str(error))
            return
        if await asyncio.to_thread(marks, self.settings.catalog) != found:
            return  # somebody is still writing: the next look takes it whole
        self._seen, self.current = found, catalog
        self.metrics.catalog_refused.set(0)
        self._log.info("catalog.reloaded", tools=len(catalog.listed()))
        self.changed(catalog)


def marks(folder: Path | None) -> Marks:
    """What changes when a file of the folder does: (name, inode, time of change in ns, bytes) of each."""
    if folder is None or not folder.is_dir():
        return ()
    found = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except OSError:  # gone since it was listed
            continue
        found.append((path.name, status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(sorted(found))


async def _admitted(_catalog: Catalog) -> None:
    """Nothing more is asked."""


def _untold(_catalog: Catalog) -> None:
    """Nobody has to know."""
