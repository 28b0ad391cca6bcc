"""What commands that work on the database itself share: which one it is, started if it is our own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.settings import EMBEDDED, Settings, child_environment, load
from ops import embedded


def state_dir(settings: Settings) -> Path:
    """Where the embedded server and the logs of `up` live."""
    return settings.state_dir or embedded.default_state_dir(child_environment(settings))


def with_database(settings: Settings) -> Settings:
    """The settings with a database URL that can be connected to; starts the embedded server if it is meant."""
    if settings.database_url != EMBEDDED:
        return settings
    server = embedded.start(state_dir(settings))
    return replace(settings, database_url=server.url)


def loaded(**flags: Any) -> Settings:
    """The settings of a command that needs the database. Raises ValidationFailed or StoreUnavailable."""
    return with_database(load(**flags))
