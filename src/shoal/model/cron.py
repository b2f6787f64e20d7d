"""When a job is due: `*/5 * * * *`, five fields of local time, as crontab(5) has them. Pure.

A time that a clock leaves out in spring is taken an hour later, one that it repeats in autumn the first time only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

DAYS_MAX = 8 * 366 + 1
"""The 29th of February comes after eight years at the latest."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _WEEKDAYS),
)
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either: bool
    """Both kinds of day are restricted: one of them is enough, as in every cron."""

    def has(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_date or by_weekday) if self.either else (by_date and by_weekday)


def parse(text: str) -> Schedule:
    """Raises ValueError, with words for a person."""
    words = _ALIASES.get(text.strip().lower(), text).split()
    if text.strip().startswith("@") and len(words) == 1:
        raise ValueError(f"'{text}' is none of {', '.join(_ALIASES)}")
    if len(words) != len(_FIELDS):
        raise ValueError(f"has {len(words)} fields, and a schedule has five: minute hour day month weekday")
    minutes, hours, days, months, weekdays = (_field(w, *f) for w, f in zip(words, _FIELDS, strict=True))
    schedule = Schedule(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        either=not words[2].startswith("*") and not words[4].startswith("*"),
    )
    if next_after(schedule, 0.0) is None:
        raise ValueError("is a day that never comes")
    return schedule


def next_after(schedule: Schedule, at: float, zone: tzinfo | None = None) -> float | None:
    """The first time it is due later than `at`, both in seconds of the epoch. `zone`: the machine's when left out.
    None: never."""
    start = datetime.fromtimestamp(at, zone)
    day = start.date()
    for _ in range(DAYS_MAX):
        if schedule.has(day):
            for hour in schedule.hours:
                if day == start.date() and hour < start.hour - 1:
                    continue  # one hour before may be one later: clocks are put back
                for minute in schedule.minutes:
                    due = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()
                    if due > at:
                        return due
        day += timedelta(days=1)
    return None


def _field(word: str, name: str, least: int, most: int, names: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step = part.partition("/")
        if slash and (not step.isascii() or not step.isdigit() or int(step) == 0):
            raise ValueError(f"'{part}' is no {name}: after / comes a number from 1")
        if span == "*":
            low, high = least, most
        else:
            first, dash, last = span.partition("-")
            low = _number(first, part, name, least, most, names)
            high = _number(last, part, name, least, most, names) if dash else (most if slash else low)
        if low > high:
            raise ValueError(f"'{part}' is no {name}: {low} is more than {high}")
        found.update(range(low, high + 1, int(step) if slash else 1))
    return frozenset(found)


def _number(word: str, part: str, name: str, least: int, most: int, names: tuple[str, ...]) -> int:
    if word.lower() in names:
        return names.index(word.lower()) + (1 if least == 1 else 0)
    if not word.isascii() or not word.isdigit() or len(word) > 2 or not least <= int(word) <= most:
        raise ValueError(f"'{part}' is no {name}, which goes from {least} to {most}")
    return int(word)
