"""sql.query and sql.execute: parametrised SQL on connections that the operator named."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from decimal import Decimal
from typing import Any, LiteralString, cast

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from engine.errors import InputInvalid, OutputInvalid, ToolError, ToolRejected, ToolTimeout, ToolUnavailable
from engine.tools.calls import Arguments, Call

MAX_ROWS = 10_000
CHUNK = 500
"""Rows that the server sends at once: what a query answers with beyond the limits is never held here."""
_READS = re.compile(r"(?:\s|--[^\n]*\n|/\*[^*/]*\*/|\()*(?:select|with|values|table)\b", re.IGNORECASE)
"""How a statement begins that answers with rows or fails, in a transaction that is read-only."""

Rows = list[dict[str, Any]]


class SqlTools:
    """One small pool per named connection, opened when it is first used."""

    def __init__(self, urls: Mapping[str, str], max_bytes: int = 1_048_576) -> None:
        self.urls = urls
        self.max_bytes = max_bytes
        self._pools: dict[str, AsyncConnectionPool[Any]] = {}
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        """Close every pool."""
        await self._stack.aclose()

    async def query(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """A read-only statement: {sql, params?, connection?} → {rows, row_count}; at most 10,000 rows."""
        rows, count = await self._run(arguments, call, read_only=True)
        return {"rows": rows, "row_count": count}

    async def execute(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """A writing statement: {sql, params?, connection?} → {rows (of RETURNING), row_count}."""
        rows, count = await self._run(arguments, call, read_only=False)
        return {"rows": rows, "row_count": count}

    async def _run(self, arguments: Arguments, call: Call, *, read_only: bool) -> tuple[Rows, int]:
        pool = await self._pool(arguments.get("connection", "duework"))
        # The statement is the pipeline author's, checked and scoped like any tool input; values are bound.
        statement = cast("LiteralString", arguments["sql"])
        try:
            async with pool.connection(call.timeout.total_seconds()) as conn, conn.transaction():
                await conn.execute(
                    "SELECT set_config('statement_timeout', %s, true), set_config('transaction_read_only', %s, true)",
                    [
                        str(max(1, int(call.timeout / timedelta(milliseconds=1)))),
                        "on" if read_only else "off",
                    ],
                )
                if read_only and _READS.match(statement):
                    rows = await self._streamed(conn, statement, arguments.get("params"))
                    return rows, len(rows)
                # `prepare` makes it one statement: the server refuses "COMMIT; INSERT …", which would leave the
                # transaction, and with it read_only.
                cursor = await conn.execute(statement, arguments.get("params"), prepare=True)
                count = cursor.rowcount
                return (await self._limited(cursor) if cursor.description else []), max(count, 0)
        except (psycopg.Error, PoolTimeout) as error:
            raise _translated(error) from error
        except TypeError as error:  # psycopg's word for a list where names were expected, or the reverse
            raise InputInvalid(f"params do not fit the statement: {error}") from error
        except UnicodeEncodeError as error:
            raise InputInvalid("the statement or its params hold half of a surrogate pair") from error
        except (
            ValueError,
            RecursionError,
        ) as error:  # JSON of a thousand levels, or a number of as many digits
            raise OutputInvalid(f"a value of the answer cannot be read here: {error}") from error

    async def _streamed(
        self, conn: psycopg.AsyncConnection[dict[str, Any]], statement: LiteralString, params: Any
    ) -> Rows:
        """The rows as they come; past a limit the server is told to stop. A stream is one statement, too."""
        size = CHUNK if psycopg.capabilities.has_stream_chunked() else 1
        stream = cast("AsyncGenerator[dict[str, Any]]", conn.cursor().stream(statement, params, size=size))
        async with aclosing(stream) as rows:
            return await self._limited(rows)

    async def _limited(self, rows: AsyncIterator[dict[str, Any]]) -> Rows:
        """The rows as JSON. Raises OutputInvalid for more than MAX_ROWS of them, or more than fit in an output."""
        kept: Rows = []
        size = 0
        async for row in rows:
            kept.append({name: _json(value) for name, value in row.items()})
            size += sum(len(str(value)) for value in kept[-1].values())
            if len(kept) > MAX_ROWS:
                raise OutputInvalid(f"the query answers with more than {MAX_ROWS} rows; add a LIMIT")
            if size > self.max_bytes:
                raise OutputInvalid(f"the query answers with more than {self.max_bytes} bytes; add a LIMIT")
        return kept

    async def _pool(self, name: str) -> AsyncConnectionPool[Any]:
        if name not in self.urls:
            known = ", ".join(sorted(self.urls)) or "none"
            raise InputInvalid(
                f"there is no connection {name!r}; configured are: {known} (DUEWORK_CONNECTIONS)"
            )
        if name not in self._pools:
            pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
                self.urls[name],
                min_size=0,
                max_size=4,
                open=False,
                timeout=10,
                kwargs={"row_factory": dict_row, "autocommit": True, "application_name": "duework-sql-tool"},
                configure=_keep_no_statements,
                reset=_forget_session,
            )
            self._pools[name] = await self._stack.enter_async_context(pool)
        return self._pools[name]


async def _keep_no_statements(conn: psycopg.AsyncConnection[Any]) -> None:
    """DISCARD ALL takes prepared statements with it, and psycopg would ask for those that it remembers."""
    conn.prepared_max = 0


async def _forget_session(conn: psycopg.AsyncConnection[Any]) -> None:
    """Take back what a statement set for its session; the next one may be another pipeline's."""
    await conn.execute("DISCARD ALL")


def _translated(error: psycopg.Error | PoolTimeout) -> ToolError:
    """The class that decides about a retry: the server's own SQLSTATE, never its words."""
    state = getattr(error, "sqlstate", None)
    text = str(error).split("\n", 1)[0]
    if state is None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return ToolUnavailable("the database does not answer")
        return InputInvalid(f"the statement cannot be run with these params: {text}")
    if state == "57014":
        return ToolTimeout("the statement took longer than the step's timeout")
    if state[:2] in ("08", "40", "53", "57", "55"):
        return ToolUnavailable(f"{state}: {text}")
    return ToolRejected(f"{state}: {text}")


def _json(value: Any) -> Any:
    """A column's value as JSON: times in ISO 8601, numerics as numbers, what has no JSON form as text."""
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**53 else float(value)
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
