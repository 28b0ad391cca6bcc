"""Fixtures that every test may ask for. Unit tests ask for none of the databases.

Async tests and fixtures need no mark: anyio's pytest plugin runs them, on asyncio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from engine import db
from tests import examples, postgres


def pytest_configure(config: pytest.Config) -> None:
    """The process that the user started owns the database server; xdist's workers only use it."""
    examples.register()
    if not hasattr(config, "workerinput"):
        postgres.open_session()


def pytest_unconfigure(config: pytest.Config) -> None:
    """By now xdist's workers have ended."""
    if not hasattr(config, "workerinput"):
        postgres.close_session()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """psycopg and the whole of duework run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command that a test runs within this process sets its log up, on a stream that ends with the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server_url() -> str:
    """A role's URL on the session's PostgreSQL server; it may create databases and roles."""
    return postgres.server_url()


@pytest.fixture(scope="session")
def template_database(server_url: str) -> str:
    """The name of the migrated template database."""
    return postgres.template(server_url)


@pytest.fixture
def database_url(server_url: str, template_database: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    with postgres.database(server_url, template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A database of the test's own that was never migrated."""
    with postgres.database(server_url) as url:
        yield url


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[db.Connection]:
    """A connection to `database_url`, as duework opens them: autocommit, rows as dicts, UTC."""
    async with await db.connect(database_url, "test") as connection:
        yield connection
