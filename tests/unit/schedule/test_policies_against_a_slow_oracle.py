"""Property test of what the other slow oracles leave out: rules in zones under all nine policies, with their ends.

The clock of a zone is read every minute for twelve days around a transition; what a rule wants is judged day
by day. COUNT, UNTIL in its three forms, WKST and BYSETPOS are applied as their definitions say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import lru_cache
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ValidationFailed
from engine.schedule import occurrences
from engine.schedule.zones import load_zone
from tests.examples import examples
from tests.unit.schedule.test_against_a_slow_oracle import (
    DAY,
    MINUTE,
    TURNS,
    WEEKDAYS,
    read_clocks,
    some,
)

REACH = 6 * DAY


@dataclass(frozen=True)
class Clockface:
    """What clocks show, minute by minute: each wall time's instants, and each jump (from, to, instant)."""

    shown: dict[datetime, list[datetime]]
    jumps: list[tuple[datetime, datetime, datetime]]

    def resolve(self, wall: datetime, gap: str, fold: str) -> list[datetime]:
        """The instants that `wall` means under the policies."""
        if wall in self.shown:
            turns = self.shown[wall]
            return {"first": turns[:1], "second": turns[-1:], "both": turns}[fold]
        for missing, to, instant in self.jumps:
            if missing <= wall < to:
                return {"shift": [instant + (wall - missing)], "next_valid": [instant], "skip": []}[gap]
        raise AssertionError(wall)


@lru_cache
def clockface(zone: str, middle: datetime) -> Clockface:
    """The clock of `zone` for some days around `middle`."""
    shown: dict[datetime, list[datetime]] = {}
    jumps = []
    previous: datetime | None = None
    for instant, wall in read_clocks(load_zone(zone), middle - REACH - DAY, middle + REACH + DAY):
        if previous is not None and wall - previous > MINUTE:
            jumps.append((previous + MINUTE, wall, instant))
        shown.setdefault(wall, []).append(instant)
        previous = wall
    return Clockface(shown, jumps)


@dataclass(frozen=True)
class Wanted:
    """A DAILY or WEEKLY rule as plain values. `until` is a wall time; `form` says how it is written."""

    weekly: bool
    interval: int
    wkst: int
    weekdays: frozenset[int]
    hours: frozenset[int]
    minutes: frozenset[int]
    places: frozenset[int]
    count: int | None
    until: datetime | None
    form: str

    def text(self) -> str:
        """The rule."""
        lists = {"BYHOUR": self.hours, "BYMINUTE": self.minutes, "BYSETPOS": self.places}
        parts = [
            f"FREQ={'WEEKLY' if self.weekly else 'DAILY'};INTERVAL={self.interval};WKST={WEEKDAYS[self.wkst]}"
        ]
        parts += [f"{name}={','.join(map(str, sorted(found)))}" for name, found in lists.items() if found]
        parts += (
            [f"BYDAY={','.join(WEEKDAYS[day] for day in sorted(self.weekdays))}"] if self.weekdays else []
        )
        parts += [f"COUNT={self.count}"] if self.count else []
        forms = {"date": "%Y%m%d", "local": "%Y%m%dT%H%M%S", "utc": "%Y%m%dT%H%M%SZ"}
        return ";".join(parts + ([f"UNTIL={self.until.strftime(forms[self.form])}"] if self.until else []))

    def period(self, day: date) -> int:
        """The number of the week or day."""
        return (day.toordinal() - 1 - self.wkst) // 7 if self.weekly else day.toordinal()

    def walls(self, start: datetime, end: date) -> list[datetime]:
        """The wall times from `start` to `end`."""
        days = self.weekdays or (frozenset({start.weekday()}) if self.weekly else frozenset(range(7)))
        clock = sorted(
            time(h, m) for h, m in product(self.hours or {start.hour}, self.minutes or {start.minute})
        )
        groups: dict[int, list[datetime]] = {}
        day = start.date() - 7 * DAY
        while day <= end + 7 * DAY:
            if (self.period(day) - self.period(start.date())) % self.interval == 0 and day.weekday() in days:
                groups.setdefault(self.period(day), []).extend(datetime.combine(day, at) for at in clock)
            day += DAY
        found = [wall for group in groups.values() for wall in self.picked(group) if wall >= start]
        return [wall for wall in found[: self.count] if wall.date() <= end]

    def picked(self, group: list[datetime]) -> list[datetime]:
        """BYSETPOS within one period's set."""
        wanted = {place if place > 0 else len(group) + 1 + place for place in self.places}
        return [wall for place, wall in enumerate(group, 1) if not wanted or place in wanted]

    def allows(self, wall: datetime, instant: datetime) -> bool:
        """UNTIL: a date or local time bounds wall times, a time in UTC bounds instants."""
        if self.until is None:
            return True
        if self.form == "utc":
            return instant <= self.until.replace(tzinfo=UTC)
        return wall.date() <= self.until.date() if self.form == "date" else wall <= self.until


@st.composite
def cases(draw: st.DrawFn) -> tuple[Wanted, str, datetime, datetime]:
    """A rule, a zone, the day of a transition there, and a start some days before it."""
    zone, day = draw(st.sampled_from(TURNS))
    middle = datetime.fromisoformat(f"{day}T00:00")
    start = middle - draw(st.integers(60, 4 * 24 * 60)) * MINUTE
    hours = draw(
        st.just(frozenset()) | st.frozensets(st.integers(0, 4) | st.just(23), min_size=1, max_size=3)
    )
    minutes, weekdays = draw(some(0, 59)), draw(some(0, 6, most=6))
    places = draw(some(1, 4, True, 2)) if hours or minutes or weekdays else frozenset()
    ends = draw(st.sampled_from(["never", "count", "date", "local", "utc"]))
    until = (
        middle + draw(st.integers(-300, 4 * 24 * 60)) * MINUTE if ends in ("date", "local", "utc") else None
    )
    wanted = Wanted(
        draw(st.booleans()), draw(st.integers(1, 3)), draw(st.integers(0, 6)), weekdays, hours, minutes, places,
        draw(st.integers(1, 9)) if ends == "count" else None, until, ends,
    )  # fmt: skip
    return wanted, zone, middle, start


@examples(40)
@given(
    cases(),
    st.sampled_from(["shift", "next_valid", "skip"]),
    st.sampled_from(["first", "second", "both"]),
    st.integers(0, 6 * 24 * 60),
)
def test_rules_under_every_policy(
    case: tuple[Wanted, str, datetime, datetime], gap: str, fold: str, later: int
) -> None:
    """From the start and from any minute after it, the instants are those that the clock and the rule name."""
    wanted, zone, middle, start = case
    face = clockface(zone, middle.replace(tzinfo=UTC))
    since = (face.resolve(start, gap, fold) or face.resolve(start, "next_valid", fold))[0]
    end = middle + REACH - 2 * DAY
    expected = sorted(
        {
            instant
            for wall in wanted.walls(start, end.date())
            for instant in face.resolve(wall, gap, fold)
            if wanted.allows(wall, instant) and since <= instant <= end.replace(tzinfo=UTC) - DAY
        }
    )
    for after in (None, since + later * MINUTE):
        due = [instant for instant in expected if after is None or instant > after]
        try:
            found = occurrences("rrule", wanted.text(), zone, start, after, len(due) + 1, gap=gap, fold=fold)
        except ValidationFailed:
            assert not expected
            return
        assert [at for at in found if at <= end.replace(tzinfo=UTC) - DAY] == due
