"""sql.query and sql.execute: parametrised SQL on connections that the operator named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from decimal import Decimal
from typing import Any, LiteralString, cast

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from engine.errors import InputInvalid, OutputInvalid, ToolError, ToolRejected, ToolTimeout, ToolUnavailable
from engine.tools.calls import Arguments, Call

MAX_ROWS = 10_000


class SqlTools:
    """One small pool per named connection, opened when it is first used."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls = urls
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

    async def _run(
        self, arguments: Arguments, call: Call, *, read_only: bool
    ) -> tuple[list[dict[str, Any]], int]:
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
                # `prepare` makes it one statement: the server refuses "COMMIT; INSERT …", which would leave the
                # transaction, and with it read_only.
                cursor = await conn.execute(statement, arguments.get("params"), prepare=True)
                rows = await cursor.fetchmany(MAX_ROWS + 1) if cursor.description else []
                count = cursor.rowcount
        except (psycopg.Error, PoolTimeout) as error:
            raise _translated(error) from error
        except TypeError as error:  # psycopg's word for a list where names were expected, or the reverse
            raise InputInvalid(f"params do not fit the statement: {error}") from error
        if len(rows) > MAX_ROWS:
            raise OutputInvalid(f"the query answers with more than {MAX_ROWS} rows; add a LIMIT")
        return [{name: _json(value) for name, value in row.items()} for row in rows], max(count, 0)

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
                reset=_forget_session,
            )
            self._pools[name] = await self._stack.enter_async_context(pool)
        return self._pools[name]


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
