"""An application on the test's own database, and the system agent's client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette

from engine.settings import Settings
from tests.integration.api.clients import SYSTEM, client, running


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Development mode on loopback, where the system agent's word is good."""
    return Settings(database_url=database_url, environment="development")


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Starlette]:
    """The application, up."""
    async with running(settings) as made:
        yield made


@pytest.fixture
async def api(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    """The system agent's client."""
    async with client(app, SYSTEM) as made:
        yield made
