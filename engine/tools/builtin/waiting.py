"""core.sleep, core.wait_event, core.approval: steps that park their run until a time, an event or a person's word.

Each asks the store what has become of its wait, whether it is called for the first time, early, late or for
nothing: only the row knows, so a crash or a restart of everything changes nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from engine import db
from engine.db import Pool
from engine.durations import format_duration, parse_duration
from engine.errors import InputInvalid, ToolRejected, ToolTimeout, ValidationFailed
from engine.expressions import compile_expression
from engine.store import events, waits
from engine.store.waits import Place, Wait, Wanted
from engine.tools.calls import Arguments, Call, Parked

LONG = timedelta(days=365)
"""How long a run parks that waits for as long as it takes; it looks again then, and parks again."""
SECOND_LOOK = timedelta(minutes=1)
"""When a wait that began with past events looks for them once more: those whose transaction was open at the first
look, and did not see the wait. No transaction of duework's stays open for longer."""


class WaitingTools:
    """Waits in the worker's own database."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def sleep(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """Wait `seconds`, a `duration` or `until` an instant; answers {slept_seconds}. It is slept once per run."""
        until = instant(arguments, "until")
        given = arguments.get("seconds", arguments.get("duration"))
        length = None if given is None else duration(given)
        found = await self._enter(call, Wanted("sleep", timeout=length, until=until))
        assert found.left is not None, "a sleep has an end"
        if found.left > timedelta(0):
            raise Parked(found.left)
        return {"slept_seconds": max(0.0, (found.age + found.left).total_seconds())}

    async def wait_event(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """Wait for an event of `topic` that `filter` fits; answers {event}. Raises ToolTimeout after `timeout`."""
        topic, text, given = arguments["topic"], arguments.get("filter"), arguments.get("given")
        if text is not None:
            try:
                compile_expression(text)
            except ValidationFailed as error:
                raise InputInvalid(f"filter: {error}", errors=error.errors) from error
        since = instant(arguments, "since")
        length = timeout(arguments)
        wanted = Wanted("event", timeout=length, topic=topic, filter=text, given=given)
        found = await self._enter(call, wanted)
        if found.resolution is None and not found.late and since is not None:
            found = await self._look_back(call, wanted, since) or found
        if found.late:
            raise ToolTimeout(f"no event {topic!r} came within {_shown(length)}")
        if found.resolution is None:
            again = SECOND_LOOK - found.age if since is not None else timedelta(0)
            raise Parked(min(left(found), again) if again > timedelta(0) else left(found), early=True)
        return {"event": found.resolution}

    async def approval(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """Wait until a person decides; answers {decision, by, reason, at}. Raises ToolRejected when refused."""
        length = timeout(arguments)
        wanted = Wanted(
            "approval", timeout=length, prompt=arguments["prompt"], approvers=arguments.get("approvers")
        )
        found = await self._enter(call, wanted)
        if found.late:
            raise ToolTimeout(f"nobody decided within {_shown(length)}")
        if found.resolution is None:
            raise Parked(left(found), early=True)
        answer = dict(found.resolution)
        if answer["decision"] != "approve":
            raise ToolRejected(f"{answer['by']} refused: {answer['reason']}", details=answer)
        return answer

    async def _enter(self, call: Call, wanted: Wanted) -> Wait:
        async with db.connection(self.pool) as conn:
            return await waits.enter(conn, place(call), call.fence, wanted)

    async def _look_back(self, call: Call, wanted: Wanted, since: datetime) -> Wait | None:
        """Take the first event that came between `since` and the beginning of the wait, if there is one."""
        assert wanted.topic is not None
        async with db.transaction(self.pool) as conn:
            event = await events.first_since(conn, wanted.topic, wanted.filter, wanted.given, since)
            if event is None:
                return None
            await waits.resolve(conn, [place(call)], event, f"event:{event['id']}")
            return await waits.enter(conn, place(call), call.fence, wanted)


def place(call: Call) -> Place:
    """Where in its run a call stands."""
    return Place(call.run_id, call.step, -1 if call.item is None else call.item)


def timeout(arguments: Arguments) -> timedelta | None:
    """How long a wait may take at most; None: as long as it takes. Raises InputInvalid."""
    given = arguments.get("timeout")
    return None if given is None else duration(given)


def duration(given: str | float) -> timedelta:
    """A length of time from a tool's input. Raises InputInvalid."""
    try:
        return parse_duration(given)
    except ValidationFailed as error:
        raise InputInvalid(str(error)) from error


def instant(arguments: Arguments, name: str) -> datetime | None:
    """The instant that an argument names, None without it. Raises InputInvalid."""
    given = arguments.get(name)
    if given is None:
        return None
    try:
        found = datetime.fromisoformat(given)
    except ValueError as error:
        raise InputInvalid(f'{name}: write an instant like "2026-12-01T09:00:00Z"') from error
    if found.tzinfo is None:
        raise InputInvalid(f'{name}: {given!r} has no offset from UTC: write it like "2026-12-01T09:00:00Z"')
    return found


def left(found: Wait) -> timedelta:
    """How long to park for a wait that has no answer."""
    return LONG if found.left is None else max(found.left, timedelta(0))


def _shown(length: timedelta | None) -> str:
    return format_duration(length or timedelta(0))
