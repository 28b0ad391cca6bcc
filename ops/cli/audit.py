"""`duework audit …`: whether the log of who did what is still what was written. Reads the database itself."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import typer

from engine import db
from engine.db import Row
from engine.errors import ValidationFailed
from engine.store import audit
from ops.cli.exits import Exit
from ops.cli.local import loaded
from ops.cli.output import Format, Output, say
from ops.cli.remote import Query, Shape

_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


def verify(
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="NUMBER:DIGEST", help="A head that an earlier verify printed."),
    ] = None,
    output: Shape = Format.TABLE,
    query: Query = None,
) -> None:
    """Read the audit log against its seals. Exit code 1 when a line or a seal was changed, removed or slipped in.

    Whoever owns the database could write the whole log anew, seals and all. Keep the head that this prints somewhere
    else, and give it with --expect the next time: then that is found, too.
    """
    number, digest = _expected(expect)
    head, faults = asyncio.run(_read(number))
    if number is not None and head["known"] != digest:
        faults.append({"number": number, "fault": "it is not the seal that was expected"})
    head["head"] = f"{head['number']}:{head['digest']}" if head["number"] else None
    told = {name: head[name] for name in ("lines", "seals", "unsealed", "dropped", "head")} | {
        "faults": faults
    }
    if output is not Format.TABLE or query:
        Output(output, query).show(told)
    elif faults:
        Output().show(faults, "number", "fault")
    else:
        Output().show(told, "lines", "seals", "unsealed", "dropped", "head")
    if faults:
        say(f"the audit log is not what was written: {len(faults)} seals do not fit")
        raise typer.Exit(Exit.FAILED)
    say("every sealed line is as it was written")


def _expected(text: str | None) -> tuple[int | None, str | None]:
    if text is None:
        return None, None
    match = _HEAD.fullmatch(text.strip())
    if match is None:
        raise ValidationFailed(
            f"--expect {text!r} is not NUMBER:DIGEST, such as a former verify printed as head"
        )
    return int(match[1]), match[2]


async def _read(number: int | None) -> tuple[Row, list[Row]]:
    async with await db.connect(loaded().database_url, "cli") as conn, conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await conn.execute("SET LOCAL statement_timeout = 0")  # the whole log is read
        return dict(await audit.head(conn, number)), await audit.faults(conn)
