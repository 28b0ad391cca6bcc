"""The database door: the one pool, `transaction()`, the loader of `queries/*.sql`, and selects over tables.py.

Row functions take a connection and open no transaction; the edge (a route, the tick, the settler) opens
exactly one with `transaction()`. Connections speak UTC and look into the schema `duework`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from importlib import resources
from select import POLLIN, poll
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy import Delete, Insert, Select, Update, func
from sqlalchemy import select as sql_select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from engine.addresses import masked_url
from engine.errors import StoreUnavailable
from engine.settings import Settings

Connection = psycopg.AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]
Row = dict[str, Any]
DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
OUTAGES = ("08", "53", "57P")
"""SQLSTATEs of a server that is going, coming, or has no room: connection, resources, shutdown and crash."""
SESSION = (
    "-c search_path=duework,public -c timezone=UTC "
    "-c statement_timeout=60s -c idle_in_transaction_session_timeout=60s"
)

HOT = (
    "-c plan_cache_mode=force_generic_plan "
    "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
)
"""For a process that says the same few things all day: planned once, each row of the queue fetched by its index. What
the planner believes of a queue is old by nature, it was analysed when it was empty, or full; left to itself it read the
whole backlog for every lease. Statements of such a process join no long list with another."""


def connection_arguments(application: str, *, hot: bool = False) -> dict[str, Any]:
    """What every connection of duework is opened with; `application` shows in pg_stat_activity."""
    return {
        "row_factory": dict_row,
        "autocommit": True,
        "application_name": f"duework-{application}",
        "options": f"{SESSION} {HOT}" if hot else SESSION,
        "prepare_threshold": 3,
        "connect_timeout": 10,
    }


async def connect(url: str, application: str) -> Connection:
    """One connection outside the pool (LISTEN, the command line). Raises StoreUnavailable."""
    try:
        return await psycopg.AsyncConnection.connect(url, **connection_arguments(application))
    except psycopg.OperationalError as error:
        raise unavailable(url, error) from error


@asynccontextmanager
async def pool(
    settings: Settings, application: str, *, size: int | None = None, hot: bool = False
) -> AsyncIterator[Pool]:
    """The process's pool, open while the block runs; `hot` for a process that leases and settles.

    Raises StoreUnavailable when no connection can be made, or the database is not migrated.
    """
    made: Pool = AsyncConnectionPool(
        settings.database_url,
        min_size=1,
        max_size=size or settings.pool_size,
        kwargs=connection_arguments(application, hot=hot),
        open=False,
        name=application,
        timeout=10,
        check=_look,
    )
    try:
        await made.open(wait=True, timeout=10)
    except PoolTimeout as error:
        await made.close()
        raise unavailable(settings.database_url, error) from error
    try:
        async with made.connection() as conn:
            row = await fetch_one(conn, "find_schema")
            if not row or not row["migrated"]:
                raise StoreUnavailable("the database is not migrated: run `duework db migrate`")
        yield made
    finally:
        await made.close()


async def _look(conn: Connection) -> None:
    """Ask a connection whether it lives, if it has said something unasked: after a restart it says farewell.

    A look without a question costs microseconds; one with would be a round trip for each use of the pool.
    """
    unasked = poll()
    unasked.register(conn.fileno(), POLLIN)
    if unasked.poll(0):
        await AsyncConnectionPool.check_connection(conn)


@asynccontextmanager
async def transaction(source: Pool) -> AsyncIterator[Connection]:
    """A connection in a transaction: committed at the end of the block, rolled back by an exception."""
    async with connection(source) as conn, conn.transaction():
        yield conn


@asynccontextmanager
async def connection(source: Pool) -> AsyncIterator[Connection]:
    """A connection on which each statement commits by itself. Raises StoreUnavailable during an outage."""
    try:
        async with source.connection() as conn:
            yield conn
    except (psycopg.OperationalError, PoolTimeout) as error:
        if not is_outage(error):
            raise  # the server answered: a serialization failure or a timeout is not an outage
        raise StoreUnavailable(f"the database does not answer: {error}") from error


def is_outage(error: Exception) -> bool:
    """Whether the server is away, going, coming or out of room, rather than answering with a refusal."""
    if not isinstance(error, psycopg.OperationalError | PoolTimeout):
        return False
    state = getattr(error, "sqlstate", None)
    return state is None or state.startswith(OUTAGES)


def unavailable(url: str, error: Exception) -> StoreUnavailable:
    """The error for a database that cannot be reached, with the mend in it."""
    return StoreUnavailable(
        f"cannot connect to {masked_url(url)}: {str(error).strip()}. "
        "Check DUEWORK_DATABASE_URL and that PostgreSQL runs, or try `duework doctor`."
    )


def query(name: str) -> bytes:
    """The text of `engine/store/queries/<name>.sql`."""
    return _statements()[name]


@cache
def _statements() -> Mapping[str, bytes]:
    """All of them, read at once by the first statement that a process sends (2 ms): an upgrade that is installed over a
    running process must not mix its statements with the code from before."""
    files = resources.files("engine.store.queries").iterdir()
    return {file.name.removesuffix(".sql"): file.read_bytes() for file in files if file.name.endswith(".sql")}


async def fetch(conn: Connection, name: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """Run the query file `name` and return all its rows."""
    cursor = await conn.execute(query(name), values)
    return await cursor.fetchall()


async def fetch_one(conn: Connection, name: str, values: Mapping[str, Any] | None = None) -> Row | None:
    """Run the query file `name` and return its first row, or None."""
    cursor = await conn.execute(query(name), values)
    return await cursor.fetchone()


async def execute(conn: Connection, name: str, values: Mapping[str, Any] | None = None) -> int:
    """Run the query file `name` and return how many rows it changed."""
    cursor = await conn.execute(query(name), values)
    return cursor.rowcount


async def select(conn: Connection, statement: Select[Any] | Insert | Update | Delete) -> list[Row]:
    """Run a statement built over `tables.py` and return its rows (of RETURNING, for a write)."""
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    cursor = await conn.execute(str(compiled).encode(), _bound(compiled))
    return await cursor.fetchall() if cursor.description else []


async def clock(conn: Connection) -> datetime:
    """The database's time, which is the one clock; within a transaction it stands still."""
    row = (await select(conn, sql_select(func.now().label("now"))))[0]
    now: datetime = row["now"]
    return now


def _bound(compiled: Any) -> dict[str, Any]:
    processors = compiled._bind_processors
    return {k: processors[k](v) if k in processors else v for k, v in compiled.params.items()}


def placeholders(rows: Sequence[Mapping[str, Any]], *columns: str) -> dict[str, list[Any]]:
    """Turn rows into one array per column, the shape that `unnest` takes."""
    return {column: [row[column] for row in rows] for column in columns}
