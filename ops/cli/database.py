"""`duework db …`: the schema and its history."""

from __future__ import annotations

from typing import Annotated

import typer

import migrations
from engine.addresses import masked_url
from engine.errors import ValidationFailed
from ops.cli.exits import Exit
from ops.cli.local import loaded
from ops.cli.output import confirm, say
from ops.cli.tasks import Yes


def migrate(
    revision: Annotated[str, typer.Option("--to", help="Stop at this revision.")] = "head",
) -> None:
    """Bring the schema up to date. Safe to run from several processes at once."""
    url = loaded().database_url
    before = migrations.current(url)
    migrations.upgrade(url, revision)
    after = migrations.current(url)
    say(
        f"the schema is at {after}"
        + (" already" if before == after else f", it was at {before or 'nothing'}")
    )


def status() -> None:
    """Show which revision the database is at, and the newest there is. Exit code 1 when they differ."""
    url = loaded().database_url
    current, head = migrations.current(url), migrations.head()
    print(f"database  {masked_url(url)}")
    print(f"revision  {current or 'none'}")
    print(f"newest    {head}")
    if current != head:
        say("run `duework db migrate`")
        raise typer.Exit(Exit.FAILED)


def downgrade(
    revision: Annotated[str, typer.Argument(help="The revision to go back to; `base` removes everything.")],
    yes: Yes = False,
) -> None:
    """Take the schema back to a revision. What that revision did not know is deleted, with its data."""
    url = loaded().database_url
    confirm(f"Take {masked_url(url)} back to {revision}? Data is deleted.", yes)
    migrations.downgrade(url, revision)
    say(f"the schema is at {migrations.current(url) or 'nothing'}")


def sql(
    revision: Annotated[str, typer.Option("--to", help="Stop at this revision.")] = "head",
) -> None:
    """Print the whole schema as SQL, to review it or to apply it by other means. Needs no database."""
    print(migrations.sql(revision))


def check() -> None:
    """Fail unless the database is at the newest revision: for deployments to wait on."""
    url = loaded().database_url
    current, head = migrations.current(url), migrations.head()
    if current != head:
        raise ValidationFailed(
            f"the schema is at {current or 'nothing'}, not at {head}: run `duework db migrate`"
        )
    say(f"the schema is at {head}")
