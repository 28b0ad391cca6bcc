"""sql.query and sql.execute on a real server: what is refused, what is bound, and how values become JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from engine.db import Connection
from engine.errors import InputInvalid, OutputInvalid, ToolError, ToolRejected, ToolTimeout, ToolUnavailable
from engine.executor import Attempt
from engine.pipeline import parse_definition
from engine.plan import Ports, Run, prepare
from engine.settings import Settings
from engine.tools.builtin import sql
from engine.tools.builtin.sql import SqlTools
from engine.tools.calls import Call
from engine.tools.registry import load_catalog
from tests.factories import document, one, step, until

CALL = Call(UUID(int=7), "look", "run:look", fence=1, attempt=1, timeout=timedelta(seconds=20))
WRITES = [
    "INSERT INTO public.kept VALUES (2)",
    "UPDATE public.kept SET n = 2",
    "DELETE FROM public.kept",
    "TRUNCATE public.kept",
    "CREATE TABLE public.made ()",
    "WITH gone AS (DELETE FROM public.kept RETURNING n) SELECT n FROM gone",
    "SELECT n FROM public.kept FOR UPDATE",
    "SELECT public.add_one()",
    "DO $$ BEGIN PERFORM public.add_one(); END $$",
    "DO $$ BEGIN COMMIT; INSERT INTO public.kept VALUES (2); END $$",
    "SELECT nextval('public.counter')",
    "SET TRANSACTION READ WRITE",
    "SET transaction_read_only = off",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SET transaction_read_only = off; INSERT INTO public.kept VALUES (2)",
    "COMMIT; INSERT INTO public.kept VALUES (2)",
    "ROLLBACK; INSERT INTO public.kept VALUES (2)",
    "COMMIT AND CHAIN; SET TRANSACTION READ WRITE; INSERT INTO public.kept VALUES (2)",
    "SELECT 1; COMMIT; BEGIN; INSERT INTO public.kept VALUES (2)",
    "; INSERT INTO public.kept VALUES (2)",
    "COPY public.kept FROM STDIN",
]


@pytest.fixture
async def tools(database_url: str) -> AsyncIterator[SqlTools]:
    """Tools with one connection of their own, and one that nobody answers at."""
    made = SqlTools({"duework": database_url, "gone": "postgresql://nobody@127.0.0.1:1/none"})
    yield made
    await made.close()


@pytest.fixture
async def kept(conn: Connection) -> Connection:
    """A table of one row, a sequence, and a function that writes."""
    await conn.execute("CREATE TABLE public.kept AS SELECT 1 AS n")
    await conn.execute("CREATE SEQUENCE public.counter")
    await conn.execute(
        "CREATE FUNCTION public.add_one() RETURNS void LANGUAGE sql AS 'INSERT INTO public.kept VALUES (2)'"
    )
    return conn


async def value(tools: SqlTools, statement: str, params: Any = None) -> Any:
    """The only value of the only row."""
    given = {} if params is None else {"params": params}
    (row,) = (await tools.query({"sql": statement, **given}, CALL))["rows"]
    (only,) = row.values()
    return only


@pytest.mark.parametrize("statement", WRITES)
async def test_a_query_cannot_write(tools: SqlTools, kept: Connection, statement: str) -> None:
    """The server refuses it: in a CTE, in a function, after any way out of the read-only transaction."""
    with pytest.raises(ToolError) as refused:
        await tools.query({"sql": statement}, CALL)
    assert not refused.value.retryable
    assert await value(tools, "SELECT array_agg(n) FROM public.kept") == [1]
    assert await one(kept, "SELECT is_called FROM public.counter") is False
    assert await one(kept, "SELECT to_regclass('public.made')") is None


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "ROLLBACK",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SET search_path = pg_temp",
    ],
)
async def test_a_session_is_left_as_it_was(tools: SqlTools, kept: Connection, statement: str) -> None:
    """Whatever a statement does to its session, the next query has its own transaction, read-only again."""
    await tools.query({"sql": statement}, CALL)
    with pytest.raises(ToolRejected, match="25006"):
        await tools.query({"sql": "INSERT INTO public.kept VALUES (2)"}, CALL)
    assert await value(tools, "SELECT n FROM kept") == 1


async def test_a_connection_lasts_for_many_calls(tools: SqlTools) -> None:
    """What puts a session back takes prepared statements with it, and nobody asks for them again."""
    assert [await value(tools, "SELECT 1") for _ in range(12)] == [1] * 12
    for _ in range(12):
        assert (await tools.execute({"sql": "SELECT 1 AS n"}, CALL))["rows"] == [{"n": 1}]


async def test_session_locks_and_settings_end_with_the_call(tools: SqlTools, conn: Connection) -> None:
    """A pipeline neither keeps a lock nor leaves a setting behind for the next that gets its connection."""
    await tools.query({"sql": "SELECT pg_advisory_lock(77), set_config('app.user', 'mine', false)"}, CALL)
    assert await value(tools, "SELECT current_setting('app.user', true)") in (None, "")
    assert await one(conn, "SELECT pg_try_advisory_lock(77)")


async def test_execute_writes_in_a_transaction_of_its_own(tools: SqlTools, kept: Connection) -> None:
    """RETURNING gives rows; what fails leaves nothing; two statements are refused as well."""
    insert = "INSERT INTO public.kept SELECT generate_series(%s::int, %s) RETURNING n"
    answer = await tools.execute({"sql": insert, "params": [5, 6]}, CALL)
    assert answer == {"rows": [{"n": 5}, {"n": 6}], "row_count": 2}
    assert (await tools.execute({"sql": "UPDATE public.kept SET n = 0"}, CALL)) == {
        "rows": [],
        "row_count": 3,
    }
    for statement in ("UPDATE public.kept SET n = 1 / n", "DELETE FROM public.kept; DELETE FROM public.kept"):
        with pytest.raises(ToolRejected):
            await tools.execute({"sql": statement}, CALL)
    assert await one(kept, "SELECT sum(n) FROM public.kept") == 0
    assert await one(kept, "SELECT count(*) FROM public.kept") == 3


async def test_parameters_are_bound(tools: SqlTools, kept: Connection) -> None:
    """A value is a value, whatever it looks like; by position and by name; a lone % needs no escape."""
    attack = "'; DROP TABLE public.kept; --"
    assert await value(tools, "SELECT %s::text", [attack]) == attack
    assert await value(tools, "SELECT %(a)s::text || %(a)s", {"a": attack}) == attack * 2
    assert await value(tools, "SELECT n FROM public.kept WHERE n = ANY (%s)", [[1, 2]]) == 1
    assert await value(tools, "SELECT %s::text", [None]) is None
    assert await value(tools, "SELECT '50%' LIKE '5%'") is True


@pytest.mark.parametrize(
    ("statement", "params"),
    [
        ("SELECT %s", []),
        ("SELECT 1", [1]),
        ("SELECT %s", {"a": 1}),
        ("SELECT %(a)s", [1]),
        ("SELECT %(a)s", {}),
        ("SELECT '50%'", []),
        ("SELECT %s::jsonb", [{"a": 1}]),
        ("SELECT %s::text", ["\x00"]),
        ("SELECT %s::text", ["\ud800"]),
        ("COPY (SELECT 1) TO STDOUT", None),
    ],
)
async def test_params_that_do_not_fit_are_the_inputs_fault(
    tools: SqlTools, statement: str, params: Any
) -> None:
    """Nothing that the driver refuses is taken for an outage, and the connection serves the next call."""
    given = {} if params is None else {"params": params}
    with pytest.raises(InputInvalid, match="params"):
        await tools.query({"sql": statement, **given}, CALL)
    assert await value(tools, "SELECT 1") == 1


@pytest.mark.parametrize("value_", ["'1e5000'::jsonb", "(repeat('[', 5000) || repeat(']', 5000))::json"])
async def test_what_cannot_be_read_is_an_output_that_is_not_valid(tools: SqlTools, value_: str) -> None:
    """JSON that PostgreSQL holds and Python does not read; the connection serves the next call."""
    with pytest.raises(OutputInvalid, match="cannot be read"):
        await value(tools, f"SELECT {value_}")
    assert await value(tools, "SELECT 1") == 1


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("NULL", None),
        ("true", True),
        ("9007199254740993::bigint", 9007199254740993),
        ("1.50::numeric", 1.5),
        ("5::numeric", 5),
        ("'NaN'::numeric", "NaN"),
        ("'-Infinity'::numeric", "-Infinity"),
        ("'Infinity'::float8", "Infinity"),
        ("'2026-03-29 01:30:00.25+00'::timestamptz AT TIME ZONE 'UTC'", "2026-03-29T01:30:00.250000"),
        ("'2026-03-29'::date", "2026-03-29"),
        ("'12:30'::time", "12:30:00"),
        ("'00000000-0000-0000-0000-000000000001'::uuid", "00000000-0000-0000-0000-000000000001"),
        ("ARRAY[ARRAY[1, NULL], ARRAY[3, 4]]", [[1, None], [3, 4]]),
        ("ARRAY['1.5'::numeric, 'NaN']", [1.5, "NaN"]),
        ("""'{"a": [1, {"b": null}]}'::jsonb""", {"a": [1, {"b": None}]}),
        ("'[1, 2.5]'::json", [1, 2.5]),
        ("""'\\x00ff'::bytea""", "00ff"),
        ("interval '1 day 1.5 seconds'", 86401.5),
        ("'10.0.0.1/8'::inet", "10.0.0.1/8"),
        ("int4range(1, 3)", "[1, 3)"),
        ("'a'::\"char\"", "a"),
    ],
)
async def test_values_become_json(tools: SqlTools, expression: str, expected: Any) -> None:
    """Each type's form; 1 and true, and 5 and 5.0, are told apart."""
    found = await value(tools, f"SELECT {expression} AS v")
    assert (type(found), found) == (type(expected), expected)


async def test_instants_say_their_offset(tools: SqlTools) -> None:
    """A timestamptz is ISO 8601 with an offset, and the same instant whatever the session's zone is."""
    found = await value(tools, "SELECT '2026-03-29 03:30+02'::timestamptz")
    assert datetime.fromisoformat(found) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


async def test_rows_have_a_limit(tools: SqlTools) -> None:
    """One row too many is an error that says what to do, never a silent cut."""
    series = "SELECT n FROM generate_series(1, %s::int) n"
    answer = await tools.query({"sql": series, "params": [sql.MAX_ROWS]}, CALL)
    assert (answer["row_count"], len(answer["rows"])) == (sql.MAX_ROWS, sql.MAX_ROWS)
    with pytest.raises(OutputInvalid, match="LIMIT"):
        await tools.query({"sql": series, "params": [sql.MAX_ROWS + 1]}, CALL)


@pytest.mark.parametrize("comment", ["", "-- all of them\n", "/* all */ ("])
async def test_an_answer_that_is_too_large_is_stopped_on_the_server(database_url: str, comment: str) -> None:
    """Neither the rows nor the bytes past the limit come here: what would take minutes is refused at once."""
    end = ")" if comment.endswith("(") else ""
    endless = f"{comment}SELECT generate_series(1, 1000000000000) AS n, repeat('x', %s::int) AS x{end}"
    for length, words in ((0, "more than 10000 rows"), (1000, "more than 5000 bytes")):
        limited = SqlTools({"duework": database_url}, max_bytes=5_000 if length else 10**9)
        with pytest.raises(OutputInvalid, match=words):
            await limited.query({"sql": endless, "params": [length]}, CALL)
        assert await value(limited, "SELECT 1") == 1, "the connection serves the next call"
        await limited.close()


async def test_a_cancelled_call_ends_its_statement(tools: SqlTools, conn: Connection) -> None:
    """On the server as well, reading or writing, and the connection serves the next call."""
    busy = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
        " AND application_name = 'duework-sql-tool' AND query LIKE '%%pg_sleep(90)%%' HAVING (count(*) > 0) = %s"
    )
    slow = replace(CALL, timeout=timedelta(minutes=3))
    for run in (tools.query, tools.execute):
        running = asyncio.create_task(run({"sql": "SELECT pg_sleep(90)"}, slow))
        await until(conn, busy, True)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(conn, busy, False)
        assert await value(tools, "SELECT 1") == 1


async def test_a_slow_statement_is_a_timeout(tools: SqlTools, conn: Connection) -> None:
    """By the step's timeout, on the server: nothing goes on running there."""
    assert await value(tools, "SELECT 1") == 1, "the time is the statement's, not the connection's"
    call = replace(CALL, timeout=timedelta(seconds=1))
    with pytest.raises(ToolTimeout):
        await tools.query({"sql": "SELECT pg_sleep(60)"}, call)
    busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%%pg_sleep(60)%%'"
    assert await one(conn, busy + " AND state = 'active' AND pid <> pg_backend_pid() AND %s", True) == 0


async def test_an_unknown_connection_names_those_there_are(tools: SqlTools) -> None:
    """And one at which nobody answers is unavailable, which may be tried again."""
    with pytest.raises(InputInvalid, match=r"no connection 'dueworc'; configured are: duework, gone"):
        await tools.query({"sql": "SELECT 1", "connection": "dueworc"}, CALL)
    soon = replace(CALL, timeout=timedelta(milliseconds=200))
    with pytest.raises(ToolUnavailable):
        await tools.query({"sql": "SELECT 1", "connection": "gone"}, soon)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", ToolUnavailable),
        ("40001", ToolUnavailable),
        ("40P01", ToolUnavailable),
        ("53300", ToolUnavailable),
        ("55P03", ToolUnavailable),
        ("57P01", ToolUnavailable),
        ("57014", ToolTimeout),
        ("22012", ToolRejected),
        ("23505", ToolRejected),
        ("28000", ToolRejected),
        ("42P01", ToolRejected),
        ("P0001", ToolRejected),
    ],
)
async def test_the_sqlstate_decides_about_a_retry(tools: SqlTools, state: str, kind: type[ToolError]) -> None:
    """Raised by the server itself, with words that would mislead whoever reads them."""
    statement = "DO $$ BEGIN RAISE EXCEPTION 'timeout, try again' USING ERRCODE = '" + state + "'; END $$"
    with pytest.raises(kind) as raised:
        await tools.query({"sql": statement}, CALL)
    assert type(raised.value) is kind


async def test_in_a_pipeline(tools: SqlTools, conn: Connection) -> None:
    """Through the executor with its catalog entry: parameters from the run, rows to the next step."""
    steps = [
        step(
            "look",
            "sql.query",
            with_={"sql": "SELECT name FROM duework.agent WHERE id = %s::uuid", "params": ["${params.id}"]},
        ),
        step("say", with_={"text": "It is ${steps.look.rows[0].name}"}),
    ]
    definition = parse_definition(document("ask", steps))
    run = Run(UUID(int=7), 1, 0, "run_now", datetime.now(UTC), {"id": "00000000-0000-0000-0000-000000000001"})

    async def nothing(_: Any) -> None:
        """No step of it is checkpointed."""

    async def call(entry: Any, arguments: dict[str, Any], call: Call) -> Any:
        return await (tools.query(arguments, call) if entry.endpoint == "sql.query" else echoed(arguments))

    ports = Ports(call, nothing, lambda: datetime.now(UTC), lambda _: None)
    attempt = Attempt(prepare(definition, load_catalog(Settings())), run, ports)
    outcome = await attempt.execute()
    assert (outcome.status, attempt.steps["say"]) == ("succeeded", {"text": "It is system-agent"})


async def echoed(arguments: dict[str, Any]) -> dict[str, Any]:
    """core.echo."""
    return arguments
