"""Property tests against slow oracles that share no code and no idea with what they check.

One walks every minute of UTC and reads the clock on the wall; the other walks every day and asks of each, by
itself, whether a recurrence rule wants it.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from engine.schedule import occurrences
from engine.schedule.zones import load_zone
from tests.examples import examples

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
# Days on which clocks moved, and calm ones between.
TURNS = [
    ("America/New_York", "2026-03-08"), ("America/New_York", "2026-11-01"), ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"), ("Australia/Lord_Howe", "2026-04-05"), ("Australia/Lord_Howe", "2026-10-04"),
    ("Pacific/Apia", "2011-12-31"), ("Africa/Casablanca", "2025-02-23"), ("Africa/Casablanca", "2025-04-06"),
    ("America/Sao_Paulo", "2018-11-04"), ("America/Sao_Paulo", "2018-02-18"), ("Asia/Tehran", "2022-03-22"),
    ("Europe/Chisinau", "2026-10-25"), ("UTC", "2026-06-01"), ("Asia/Kathmandu", "2026-06-01"),
]  # fmt: skip


@dataclass(frozen=True)
class Clock:
    """A cron line as sets; `dom` and `dow` are None for `*`."""

    minutes: frozenset[int]
    hours: frozenset[int]
    dom: frozenset[int] | None = None
    dow: frozenset[int] | None = None

    def text(self) -> str:
        """The line."""
        fields = (self.minutes, self.hours, self.dom, None, self.dow)
        return " ".join("*" if f is None else ",".join(map(str, sorted(f))) for f in fields)

    def wants(self, wall: datetime) -> bool:
        """Whether the line names this minute."""
        if wall.minute not in self.minutes or wall.hour not in self.hours:
            return False
        by_date = self.dom is not None and wall.day in self.dom
        by_weekday = self.dow is not None and wall.isoweekday() % 7 in self.dow
        if self.dom is None and self.dow is None:
            return True
        return by_date or by_weekday


def read_clocks(zone: ZoneInfo, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Each minute of UTC with the wall time shown then."""
    while first <= last:
        yield first, first.astimezone(zone).replace(tzinfo=None, fold=0)
        first += MINUTE


def walk(clock: Clock, zone: ZoneInfo, middle: datetime, fold: str) -> set[datetime]:
    """The instants within two days of `middle`, found by looking at the clock every minute.

    A wall time that was jumped over is due as long after the jump as it lies after the last time shown.
    """
    shown: dict[datetime, list[datetime]] = {}
    due: set[datetime] = set()
    previous: datetime | None = None
    for instant, wall in read_clocks(zone, middle - 4 * DAY, middle + 4 * DAY):
        if previous is not None and wall - previous > MINUTE:
            missing, late = previous + MINUTE, instant
            while missing < wall:
                due |= {late} if clock.wants(missing) else set()
                missing, late = missing + MINUTE, late + MINUTE
        shown.setdefault(wall, []).append(instant)
        previous = wall
    for wall, instants in shown.items():
        if clock.wants(wall):
            due |= set({"first": instants[:1], "second": instants[-1:], "both": instants}[fold])
    return {instant for instant in due if abs(instant - middle) <= 2 * DAY}


clocks = st.builds(
    Clock,
    st.frozensets(st.integers(0, 59), min_size=1, max_size=3),
    st.frozensets(st.integers(0, 4) | st.just(23), min_size=1, max_size=3),
    st.none() | st.frozensets(st.integers(1, 31), min_size=1, max_size=9),
    st.none() | st.frozensets(st.integers(0, 6), min_size=1, max_size=3),
)


@examples(12)
@given(clocks, st.sampled_from(TURNS), st.sampled_from(["first", "second", "both"]))
def test_cron_against_every_minute(clock: Clock, turn: tuple[str, str], fold: str) -> None:
    """Around every kind of transition a cron line fires exactly when the clock on the wall says so."""
    zone_name, day = turn
    middle = datetime.fromisoformat(f"{day}T00:00+00:00")
    expected = walk(clock, load_zone(zone_name), middle, fold)
    after = middle - 2 * DAY - MINUTE
    found = occurrences("cron", clock.text(), zone_name, None, after, len(expected) + 1, fold=fold)
    assert [instant for instant in found if instant <= middle + 2 * DAY] == sorted(expected)


@examples(10)
@given(clocks, st.sampled_from(TURNS), st.integers(-2000, 2000))
def test_rrule_and_cron_agree_on_daily_times(clock: Clock, turn: tuple[str, str], minutes: int) -> None:
    """The same times of day stated as a DAILY rule give the same instants from any moment on."""
    zone_name, day = turn
    daily = Clock(clock.minutes, clock.hours)
    after = datetime.fromisoformat(f"{day}T00:00+00:00") + minutes * MINUTE
    hours, past = (",".join(map(str, sorted(numbers))) for numbers in (clock.hours, clock.minutes))
    rule = f"FREQ=DAILY;BYHOUR={hours};BYMINUTE={past};BYSECOND=0"
    start = datetime(2001, 2, 3, 4, 5, 6)
    by_rule = occurrences("rrule", rule, zone_name, start, after, 20)
    assert by_rule == occurrences("cron", daily.text(), zone_name, start, after, 20)


@dataclass(frozen=True)
class Wish:
    """A recurrence rule as plain values, judged day by day."""

    freq: str
    interval: int = 1
    start: date = date(2000, 1, 1)
    months: frozenset[int] = frozenset()
    monthdays: frozenset[int] = frozenset()
    yeardays: frozenset[int] = frozenset()
    weeknos: frozenset[int] = frozenset()
    weekdays: frozenset[tuple[int, int]] = frozenset()
    places: frozenset[int] = frozenset()

    def text(self) -> str:
        """The rule."""
        named = "".join(f",{n or ''}{WEEKDAYS[day]}" for n, day in sorted(self.weekdays))[1:]
        lists: dict[str, Iterable[int]] = {
            "BYMONTH": self.months, "BYMONTHDAY": self.monthdays, "BYYEARDAY": self.yeardays,
            "BYWEEKNO": self.weeknos, "BYSETPOS": self.places,
        }  # fmt: skip
        parts = [f"FREQ={self.freq};INTERVAL={self.interval}"] + ([f"BYDAY={named}"] if named else [])
        parts += [f"{name}={','.join(map(str, sorted(found)))}" for name, found in lists.items() if found]
        return ";".join(parts)

    def period(self, day: date) -> int:
        """The number of the year, month, week or day that holds `day`."""
        if self.freq == "YEARLY":
            return day.isocalendar().year if self.weeknos else day.year
        if self.freq == "MONTHLY":
            return day.year * 12 + day.month
        return (day.toordinal() - 1) // 7 if self.freq == "WEEKLY" else day.toordinal()

    def wants(self, day: date) -> bool:
        """Whether every part that was given allows `day`; parts not given are taken from the start."""
        length = calendar.monthrange(day.year, day.month)[1]
        nth_of_year, year_length = day.timetuple().tm_yday, 365 + calendar.isleap(day.year)
        weeks = date(day.isocalendar().year, 12, 28).isocalendar().week
        tests = [
            not self.months or day.month in self.months,
            not self.monthdays or bool({day.day, day.day - length - 1} & self.monthdays),
            not self.yeardays or bool({nth_of_year, nth_of_year - year_length - 1} & self.yeardays),
            not self.weeknos
            or bool({day.isocalendar().week, day.isocalendar().week - weeks - 1} & self.weeknos),
            not self.weekdays or any(self.is_weekday(day, *wanted) for wanted in self.weekdays),
        ]
        if not (self.monthdays or self.yeardays or self.weekdays):
            tests.append(self.fits_start(day))
        return all(tests)

    def is_weekday(self, day: date, number: int, weekday: int) -> bool:
        """Whether `day` is that weekday, and where a number is given the nth of its month or year."""
        if day.weekday() != weekday or number == 0:
            return day.weekday() == weekday
        of_month = self.freq == "MONTHLY" or bool(self.months)
        first = date(day.year, day.month if of_month else 1, 1)
        size = calendar.monthrange(day.year, day.month)[1] if of_month else 365 + calendar.isleap(day.year)
        same = [first + n * DAY for n in range(size) if (first + n * DAY).weekday() == weekday]
        return -len(same) <= number <= len(same) and same[number - (number > 0)] == day

    def fits_start(self, day: date) -> bool:
        """What DTSTART fixes when no part names days."""
        if self.freq == "WEEKLY" or self.weeknos:
            return day.weekday() == self.start.weekday()
        if self.freq == "MONTHLY" or (self.freq == "YEARLY" and self.months):
            return day.day == self.start.day
        return self.freq == "DAILY" or (day.month, day.day) == (self.start.month, self.start.day)

    def walk(self, years: int) -> list[date]:
        """The days from the start on, found by asking each; positions are counted in whole periods."""
        groups: dict[int, list[date]] = {}
        first = self.start - 380 * DAY
        for number in range(380 + years * 366 + 400):  # the last period that is asked for must be whole
            day = first + number * DAY
            if (self.period(day) - self.period(self.start)) % self.interval == 0 and self.wants(day):
                groups.setdefault(self.period(day), []).append(day)
        found: set[date] = set()
        for group in groups.values():
            size = len(group)
            chosen = {p - 1 if p > 0 else size + p for p in self.places} if self.places else set(range(size))
            found |= {group[place] for place in chosen if 0 <= place < size}
        return sorted(day for day in found if day >= self.start)


def some(low: int, high: int, signed: bool = False, most: int = 3) -> st.SearchStrategy[frozenset[int]]:
    """No numbers or a few from a range, perhaps counted from the end as well."""
    numbers = st.integers(low, high)
    either = numbers | numbers.map(lambda n: -n) if signed else numbers
    return st.just(frozenset()) | st.frozensets(either, min_size=1, max_size=most)


def weekdays(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[frozenset[tuple[int, int]]]:
    """No weekdays or a few, with an ordinal or without."""
    return st.just(frozenset()) | st.frozensets(st.tuples(numbers, st.integers(0, 6)), min_size=1, max_size=4)


plain = st.just(0)
starts = st.dates(date(1996, 1, 1), date(2012, 12, 31))
WISHES = {
    "DAILY": st.builds(
        Wish,
        st.just("DAILY"),
        st.integers(1, 40),
        starts,
        months=some(1, 12),
        monthdays=some(1, 31, True, 9),
        weekdays=weekdays(plain),
    ),
    "WEEKLY": st.builds(
        Wish, st.just("WEEKLY"), st.integers(1, 9), starts, months=some(1, 12, most=9), weekdays=weekdays(plain)
    ),
    "MONTHLY": st.builds(
        Wish,
        st.just("MONTHLY"),
        st.integers(1, 14),
        starts,
        months=some(1, 12, most=9),
        monthdays=some(1, 31, True),
        weekdays=weekdays(st.integers(-5, 5)),
    ),
    "YEARLY": st.builds(
        Wish,
        st.just("YEARLY"),
        st.integers(1, 3),
        starts,
        months=some(1, 12, most=6),
        monthdays=some(1, 31, True),
        weekdays=weekdays(st.integers(-5, 5)),
    ),
    "by day of year": st.builds(
        Wish, st.just("YEARLY"), st.integers(1, 3), starts, yeardays=some(1, 366, True, 9), weekdays=weekdays(plain)
    ),
    "by week": st.builds(
        Wish,
        st.just("YEARLY"),
        st.integers(1, 3),
        starts,
        months=some(1, 12, most=6),
        weeknos=st.frozensets(st.integers(1, 53) | st.integers(-53, -1) | st.sampled_from([1, 52, 53, -1, -53]),
                              min_size=1, max_size=5),
        weekdays=weekdays(plain),
    ),
}  # fmt: skip


def with_places(wish: Wish, places: frozenset[int]) -> Wish:
    """The wish with BYSETPOS, where it has a list to pick from."""
    if not (wish.months or wish.monthdays or wish.yeardays or wish.weeknos or wish.weekdays):
        return wish
    return Wish(**{**{name: getattr(wish, name) for name in Wish.__dataclass_fields__}, "places": places})


wishes = st.builds(with_places, st.one_of(*WISHES.values()), some(1, 5, True) | st.just(frozenset()))


@examples(40)
@given(wishes, st.integers(0, 8 * 365))
def test_rules_against_every_day(wish: Wish, later: int) -> None:
    """From the start, and from any later day, a rule gives the days that a walk over all days finds."""
    expected = wish.walk(years=8)
    if not expected:
        return
    start = datetime.combine(wish.start, datetime.min.time().replace(hour=9))
    horizon = wish.start + 8 * 365 * DAY
    after = start.replace(tzinfo=UTC) + later * DAY
    for since, days in ((None, expected), (after, [day for day in expected if day > after.date()])):
        wanted = [day for day in days if day < horizon][:200]
        found = occurrences("rrule", wish.text(), "UTC", start, since, len(wanted))
        assert [instant.date() for instant in found] == wanted


@dataclass(frozen=True)
class Beat:
    """A sub-daily rule in whole minutes, judged minute by minute of elapsed time."""

    hourly: bool
    interval: int
    hours: frozenset[int]
    minutes: frozenset[int]
    weekdays: frozenset[int]

    def text(self) -> str:
        """The rule."""
        named = ",".join(WEEKDAYS[day] for day in sorted(self.weekdays))
        lists = {"BYHOUR": self.hours, "BYMINUTE": self.minutes}
        parts = [f"FREQ={'HOURLY' if self.hourly else 'MINUTELY'};INTERVAL={self.interval}"]
        parts += [f"{name}={','.join(map(str, sorted(found)))}" for name, found in lists.items() if found]
        return ";".join(parts + ([f"BYDAY={named}"] if named else []))

    def wants(self, start_minute: int, elapsed_minutes: int, wall: datetime) -> bool:
        """Whether the minute so long after the start, at which clocks show `wall`, is wanted."""
        if self.hourly and not self.minutes:
            counts = elapsed_minutes % (60 * self.interval) == 0
        elif self.hourly:
            counts = (elapsed_minutes + start_minute) // 60 % self.interval == 0
        else:
            counts = elapsed_minutes % self.interval == 0
        return (
            counts
            and (not self.hours or wall.hour in self.hours)
            and (not self.minutes or wall.minute in self.minutes)
            and (not self.weekdays or wall.weekday() in self.weekdays)
        )


beats = st.builds(
    Beat, st.booleans(), st.integers(1, 50), some(0, 23, most=5), some(0, 59, most=4), some(0, 6, most=6)
)


@examples(15)
@given(beats, st.sampled_from(TURNS), st.integers(0, 4 * 24 * 60), st.integers(0, 6 * 24 * 60))
def test_sub_daily_rules_against_every_minute(
    beat: Beat, turn: tuple[str, str], early: int, later: int
) -> None:
    """Elapsed minutes are counted and the wall clock only filters, before, in and after every transition."""
    zone_name, day = turn
    zone = load_zone(zone_name)
    start = datetime.fromisoformat(f"{day}T00:00+00:00") - early * MINUTE
    start_minute = start.astimezone(zone).minute
    read = read_clocks(zone, start, start + 6 * DAY)
    expected = [at for n, (at, wall) in enumerate(read) if beat.wants(start_minute, n, wall)]
    if not expected:
        return
    for after in (None, start + later * MINUTE):
        wanted = [at for at in expected if after is None or at > after][:500]
        assert occurrences("rrule", beat.text(), zone_name, start, after, len(wanted)) == wanted
