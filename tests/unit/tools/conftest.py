"""What the tests of http tools ask: a real server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from engine.tools.http.client import HttpTools
from tests.web import Web, web_server


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    """One server for the module; each test looks at what it asked itself."""
    with web_server() as web:
        yield web


@pytest.fixture
def web(server: Web) -> Web:
    """The server, with nothing asked yet and no answers of its own."""
    server.asked.clear()
    server.answers.clear()
    return server


@pytest.fixture
async def tools() -> AsyncIterator[HttpTools]:
    """Tools that may reach the loopback server by its address, not by its name."""
    made = HttpTools(["127.0.0.1"])
    yield made
    await made.close()
