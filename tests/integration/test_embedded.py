"""The embedded PostgreSQL: started once, found again, safe to start twice, no superuser, root or not."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine.errors import StoreUnavailable
from engine.settings import Settings
from ops import binaries, embedded
from ops.cli.stage import Stage
from tests.polling import poll_until
from tests.postgres import connect

ROOT = os.geteuid() == 0
NOBODY = 65534


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A state directory that does not exist yet, where root's server account can reach it."""
    path = Path(tempfile.gettempdir()) / f"duework-embedded-{secrets.token_hex(4)}"
    yield path
    for found in (path, *path.glob("*")):
        embedded.stop(found)
    shutil.rmtree(path, ignore_errors=True)


def one(url: str, query: str) -> object:
    """The first column of the first row."""
    with connect(url) as conn:
        row = conn.execute(query.encode()).fetchone()
    return row and row[0]


def test_both_urls_reach_a_server_that_calls_itself_embedded(state_dir: Path) -> None:
    """TCP and the socket lead to the same database, whose role is no superuser."""
    server = embedded.start(state_dir, fast=True)
    for url in (server.url, server.socket_url):
        assert one(url, "SHOW cluster_name") == embedded.CLUSTER_NAME
        assert one(url, "SELECT current_user || '@' || current_database()") == "duework@duework"
        assert one(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    assert "@" not in repr(server), "the password must not be shown by accident"


def test_without_the_password_nobody_gets_in(state_dir: Path) -> None:
    """Loopback and socket ask for the password, which only its owner may read."""
    server = embedded.start(state_dir, fast=True)
    for host in ("127.0.0.1", str(server.socket_dir)):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=host, port=server.port, user="postgres", password="guess", dbname="postgres")
    assert stat.S_IMODE((state_dir / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    assert one(server.url, "SHOW listen_addresses") == "127.0.0.1"


def test_starting_again_finds_the_running_server(state_dir: Path) -> None:
    """`start` is idempotent; `status` sees what it sees; `stop` says whether it stopped anything."""
    assert embedded.status(state_dir) is None
    assert embedded.stop(state_dir) is False
    server = embedded.start(state_dir, fast=True)
    assert embedded.start(state_dir, fast=True) == server == embedded.status(state_dir)
    assert embedded.stop(state_dir) is True
    assert embedded.status(state_dir) is None
    assert embedded.stop(state_dir) is False


def test_data_port_and_password_survive_a_restart(state_dir: Path) -> None:
    """The URL of yesterday works today, and so does the data."""
    first = embedded.start(state_dir)
    with connect(first.url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    embedded.stop(state_dir)
    second = embedded.start(state_dir)
    assert second.url == first.url
    assert one(second.url, "SELECT answer FROM kept") == 42
    assert one(second.url, "SHOW fsync") == "on"


def test_a_server_that_ends_beneath_up_comes_back(state_dir: Path) -> None:
    """`up` looks after its database as it does after its processes: one that runs is left alone."""
    said: list[str] = []
    stage = Stage(Settings(), state_dir, embedded.start(state_dir, fast=True))
    stage.revive(said.append)
    assert said == []
    embedded.stop(state_dir)
    stage.revive(said.append)
    assert said == ["PostgreSQL has ended and starts again"]
    assert embedded.status(state_dir) is not None


def test_a_taken_port_is_given_up(state_dir: Path) -> None:
    """If somebody listens on the stored port, the server takes another one and stores that."""
    first = embedded.start(state_dir, fast=True)
    embedded.stop(state_dir)
    with socket.create_server(("127.0.0.1", first.port)):
        second = embedded.start(state_dir, fast=True)
    assert second.port != first.port
    assert int((state_dir / "port").read_text(encoding="utf-8")) == second.port


def test_processes_that_start_at_once_share_one_server(state_dir: Path) -> None:
    """The lock lets one of them make the cluster; the others find it."""
    program = f"import pathlib, ops.embedded as e; print(e.start(pathlib.Path({str(state_dir)!r})).pid)"
    racing = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    answers = {process.communicate()[0].strip() for process in racing}
    server = embedded.status(state_dir)
    assert server
    assert answers == {str(server.pid)}


async def test_a_killed_server_starts_again(state_dir: Path) -> None:
    """After `kill -9` the server recovers, even where nobody reaps the dead process."""
    server = embedded.start(state_dir)
    with connect(server.url) as conn:
        conn.execute("CREATE TABLE kept ()")
    os.kill(server.pid, signal.SIGKILL)
    await poll_until(lambda: embedded.status(state_dir) is None)
    again = embedded.start(state_dir)
    assert again.pid != server.pid
    assert one(again.url, "SELECT to_regclass('kept')") == "kept"


def test_a_long_path_gets_a_short_socket(state_dir: Path) -> None:
    """Socket paths end at about 100 bytes; the socket then lies in a temporary directory until the stop."""
    deep = state_dir / ("long" * 25)
    state_dir.mkdir(mode=0o711)
    server = embedded.start(deep, fast=True)
    assert server.socket_dir.parent == Path("/tmp")
    assert one(server.socket_url, "SELECT 1") == 1
    embedded.stop(deep)
    assert not server.socket_dir.exists()


def test_an_interrupted_initdb_is_done_again(state_dir: Path) -> None:
    """A half-made cluster has not got its final name, so it is thrown away."""
    (state_dir / "data-partial").mkdir(parents=True)
    (state_dir / "data-partial" / "PG_VERSION").write_text("18\n", encoding="utf-8")
    state_dir.chmod(0o711)
    assert one(embedded.start(state_dir, fast=True).url, "SELECT 1") == 1


def test_data_of_another_major_version_is_refused_with_the_mend(state_dir: Path) -> None:
    """PostgreSQL cannot read another version's files; the message says what to do."""
    server = embedded.start(state_dir, fast=True)
    embedded.stop(state_dir)
    (server.data_dir / "PG_VERSION").write_text("9\n", encoding="utf-8")
    with pytest.raises(StoreUnavailable, match=r"made by PostgreSQL 9 .*move the state directory away"):
        embedded.start(state_dir)


def test_a_server_that_does_not_start_shows_its_log(state_dir: Path) -> None:
    """The reason stands in the server's log, so the message quotes it."""
    server = embedded.start(state_dir, fast=True)
    embedded.stop(state_dir)
    (server.data_dir / "postgresql.auto.conf").write_text("work_mem = 'plenty'\n", encoding="utf-8")
    with pytest.raises(StoreUnavailable, match=r"(?s)The end of .*server.log.*work_mem"):
        embedded.start(state_dir)


def test_programs_out_of_reach_are_copied_for_roots_server(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment below root's home is closed to the server's account; others use it in place."""
    home = state_dir / "home" / "site-packages"
    home.mkdir(parents=True)
    state_dir.chmod(0o711)
    installed = binaries.wheel_binaries(state_dir, None).parents[1]
    for name in (installed.name, f"{installed.name}.libs"):
        (home / name).symlink_to(installed.with_name(name))
    home.parent.chmod(0o700)
    monkeypatch.syspath_prepend(str(home))
    state = state_dir / "state"
    assert one(embedded.start(state, fast=True).url, "SELECT 1") == 1
    copies = list(state.glob("postgres-*"))
    assert len(copies) == (1 if ROOT else 0)
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700, "nothing outside the state directory changes"


def test_a_state_directory_out_of_reach_is_refused_in_words(state_dir: Path) -> None:
    """Root learns which directory, why, and which setting to change; nobody else has this problem."""
    state_dir.mkdir(mode=0o700)
    if ROOT:
        with pytest.raises(StoreUnavailable, match=r"refuses to run as root.*DUEWORK_STATE_DIR"):
            embedded.start(state_dir / "state")
    else:
        assert embedded.start(state_dir / "state", fast=True)


def _start_as_nobody(state: Path, programs: Path) -> None:
    if ROOT:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    server = embedded.start(state, fast=True, bin_dir=programs)
    assert one(server.url, "SELECT 1") == one(server.socket_url, "SELECT 1") == 1
    assert embedded.stop(state)


def test_it_needs_no_root(state_dir: Path) -> None:
    """A user without rights starts and stops a server of their own, owned by them."""
    state_dir.mkdir(mode=0o777)
    state_dir.chmod(0o777)
    account = binaries.Account("nobody", NOBODY, NOBODY) if ROOT else None
    programs = binaries.wheel_binaries(state_dir, account)
    state = state_dir / "state"
    process = multiprocessing.get_context("fork").Process(target=_start_as_nobody, args=(state, programs))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (state / "data").stat().st_uid == (NOBODY if ROOT else os.geteuid())


def test_without_the_wheel_the_message_names_the_extra(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever installed duework without the extra learns how to get it."""
    monkeypatch.setattr(binaries, "PACKAGE", "no_such_wheel")
    with pytest.raises(StoreUnavailable, match=r"duework\[embedded\].*DUEWORK_DATABASE_URL"):
        embedded.start(state_dir)


def test_wrong_binaries_are_named(state_dir: Path) -> None:
    """A `bin_dir` without PostgreSQL is an error that names the program looked for."""
    with pytest.raises(StoreUnavailable, match="cannot run /nowhere/postgres"):
        embedded.start(state_dir, bin_dir=Path("/nowhere"))


def test_the_default_state_directory_follows_the_user() -> None:
    """Root keeps state in /var/lib; others where XDG says, which ignores relative paths."""
    if ROOT:
        assert embedded.default_state_dir({"XDG_STATE_HOME": "/x"}) == Path("/var/lib/duework")
    else:
        assert embedded.default_state_dir({"XDG_STATE_HOME": "/x"}) == Path("/x/duework")
        assert embedded.default_state_dir({"XDG_STATE_HOME": "x"}) == Path.home() / ".local/state/duework"
