"""PostgreSQL for the tests: one throwaway server per test session, one database per test.

The session is the pytest process that the user started; its xdist workers share the server and a template
database that is migrated once. `DUEWORK_TEST_DATABASE_URL` names a server to use instead (its role must be
allowed to create databases and roles), `DUEWORK_TEST_PG_BIN` other binaries, such as Debian's.

The server lies in memory where there is room. A database is 400 files, and ext4 looks at every inode that was
given up within the last minute before it gives out one: there a new database took 0.5 s of CPU, in memory 0.05.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

import migrations
from ops import embedded

SESSION = "DUEWORK_TEST_SESSION"  # the server's directory, for xdist's workers; it ends with the owner's pid
TEMPLATE_LOCK = 7_315_502_211
MEMORY, ROOM = Path("/dev/shm"), 4 << 30  # what the whole suite needs is a few hundred MB


def open_session() -> None:
    """Name this process as the owner, and clear up after owners that were killed."""
    disk = Path(tempfile.gettempdir())
    os.environ[SESSION] = str((MEMORY if _roomy(MEMORY) else disk) / f"duework-test-{os.getpid()}")
    for state in (*disk.glob("duework-test-*"), *MEMORY.glob("duework-test-*")):
        if state.stat().st_uid == os.geteuid() and not _alive(int(_owner(state))):
            _remove(state)


def close_session() -> None:
    """Stop and remove the session's server; on a server that was named, drop the session's databases."""
    given = os.environ.get("DUEWORK_TEST_DATABASE_URL")
    if given is None:
        _remove(_state_dir())
        return
    try:
        admin = connect(given)
    except psycopg.OperationalError:
        return  # nothing was made there either
    with closing(admin):
        for name in admin.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [_prefix()]
        ).fetchall():
            drop(admin, name[0])


def server_url() -> str:
    """The session's server, started by whoever asks first."""
    given = os.environ.get("DUEWORK_TEST_DATABASE_URL")
    if given:
        return given
    binaries = os.environ.get("DUEWORK_TEST_PG_BIN")
    return embedded.start(_state_dir(), fast=True, bin_dir=Path(binaries) if binaries else None).url


def template(server: str) -> str:
    """The name of the session's migrated database, which nobody connects to."""
    name = _prefix() + "template"
    with closing(connect(server)) as admin:
        admin.execute("SELECT pg_advisory_lock(%s)", [TEMPLATE_LOCK])
        if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            with database(server) as half_made:
                migrations.upgrade(half_made)
                rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                admin.execute(
                    rename.format(sql.Identifier(urlsplit(half_made).path[1:]), sql.Identifier(name))
                )
    return name


@contextmanager
def database(server: str, source: str = "template1") -> Iterator[str]:
    """The URL of a new database, copied from `source` and dropped afterwards."""
    name = _prefix() + secrets.token_hex(4)
    with closing(connect(server)) as admin:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        admin.execute(create.format(sql.Identifier(name), sql.Identifier(source)))
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            drop(admin, name)


def connect(url: str) -> psycopg.Connection[Any]:
    """A blocking connection in autocommit, for what surrounds a test."""
    return psycopg.connect(url, autocommit=True)


def drop(admin: psycopg.Connection[Any], name: str) -> None:
    """Drop a database and whoever is still connected to it."""
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _roomy(place: Path) -> bool:
    """Whether the server can lie there: its programs are copied beside it where root runs the tests."""
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    allowed = os.access(place, os.W_OK) and not found.f_flag & os.ST_NOEXEC
    return allowed and found.f_bavail * found.f_frsize >= ROOM


def _prefix() -> str:
    return f"duework_test_{_owner(_state_dir())}_"


def _state_dir() -> Path:
    return Path(os.environ[SESSION])


def _owner(state: Path) -> str:
    return state.name.rsplit("-", 1)[1]


def _remove(state: Path) -> None:
    embedded.stop(state)
    shutil.rmtree(state, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, and is somebody else's
    return True
