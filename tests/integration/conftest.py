"""Fixtures of the tests of the store, the scheduler, the workers and the tools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.processes import Crew, crew_of, settings_for


@pytest.fixture
async def crew(database_url: str, tmp_path: Path) -> AsyncIterator[Crew]:
    """Worker and scheduler processes on the test's own database."""
    async with crew_of(settings_for(database_url), tmp_path) as made:
        yield made
