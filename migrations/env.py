"""Alembic's entry: one connection, one advisory lock, one transaction for all revisions."""

from __future__ import annotations

from alembic import context
from sqlalchemy import NullPool, create_engine, text

# Any constant will do; it is "duework" in ASCII, cut to fit a bigint.
LOCK = 0x647565776F726B


def offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        version_table_schema="duework",
    )
    with context.begin_transaction():
        context.execute("CREATE SCHEMA IF NOT EXISTS duework")
        context.run_migrations()


def online() -> None:
    """Run the revisions. A second process waits for the lock and then finds nothing left to do."""
    engine = create_engine(
        context.config.attributes["url"], poolclass=NullPool
    )  # closed after a failure, too
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS duework"))
        context.configure(connection=connection, version_table_schema="duework", transactional_ddl=False)
        context.run_migrations()
        connection.commit()


if context.is_offline_mode():
    offline()
else:
    online()
