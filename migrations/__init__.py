"""The schema's history, and the four ways to move along it.

Alembic runs the revisions in `versions/`; each executes SQL files of `sql/`, which say what they promise.
An advisory lock makes migrating safe when several processes start at once. This is the one synchronous
corner of duework, because Alembic is.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from engine.addresses import masked_url
from engine.errors import StoreUnavailable

HERE = Path(__file__).parent


def config(url: str, output: io.StringIO | None = None) -> Config:
    """Alembic's configuration for a `postgresql://` URL; no ini file is needed."""
    made = Config(output_buffer=output) if output else Config()
    made.set_main_option("script_location", str(HERE))
    made.set_main_option("path_separator", "os")
    made.attributes["url"] = "postgresql+psycopg://" + url.split("://", 1)[1]
    return made


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema up to `revision`. Raises StoreUnavailable when the database cannot be reached."""
    _run(url, lambda: command.upgrade(config(url), revision))


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to `revision` (`base` removes it, with all data)."""
    _run(url, lambda: command.downgrade(config(url), revision))


def sql(revision: str = "head") -> str:
    """The whole upgrade as SQL text, for those who review and apply it themselves."""
    output = io.StringIO()
    command.upgrade(config("postgresql://offline/", output), revision, sql=True)
    return output.getvalue()


def head() -> str:
    """The newest revision this version of duework knows."""
    revision = ScriptDirectory.from_config(config("postgresql://offline/")).get_current_head()
    assert revision is not None, "the package holds no revisions"
    return revision


def current(url: str) -> str | None:
    """The revision the database is at; None when it was never migrated."""
    found: list[str | None] = []

    def look() -> None:
        engine = create_engine(config(url).attributes["url"])
        with engine.connect() as connection:
            if connection.scalar(text("SELECT to_regclass('duework.alembic_version')")) is None:
                found.append(None)
            else:
                found.append(connection.scalar(text("SELECT version_num FROM duework.alembic_version")))
        engine.dispose()

    _run(url, look)
    return found[0]


def _run(url: str, action: Callable[[], object]) -> None:
    try:
        action()
    except OperationalError as error:
        raise StoreUnavailable(f"cannot connect to {masked_url(url)}: {error.orig}") from error
