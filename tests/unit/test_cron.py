"""Schedules: what is due when, in local time, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.model.cron import next_after, parse

BERLIN = ZoneInfo("Europe/Berlin")


def after(schedule: str, at: str, zone: ZoneInfo | None = None) -> str:
    moment = datetime.fromisoformat(at).replace(tzinfo=zone or UTC)
    due = next_after(parse(schedule), moment.timestamp(), zone or UTC)
    assert due is not None
    return datetime.fromtimestamp(due, zone or UTC).strftime("%Y-%m-%d %H:%M %a")


@pytest.mark.parametrize(
    ("schedule", "at", "due"),
    [
        ("* * * * *", "2026-11-23 16:05:30", "2026-11-23 16:06 Mon"),
        ("*/5 * * * *", "2026-11-23 16:05:00", "2026-11-23 16:10 Mon"),
        ("*/5 * * * *", "2026-11-23 16:04:59.999", "2026-11-23 16:05 Mon"),
        ("0 3 * * *", "2026-11-23 03:00:00", "2026-11-24 03:00 Tue"),
        ("30 9-17/4 * * mon-fri", "2026-11-20 17:30:00", "2026-11-23 09:30 Mon"),
        ("0 0 1 * *", "2026-12-15 00:00", "2027-01-01 00:00 Fri"),
        ("0 0 29 feb *", "2026-01-01", "2028-02-29 00:00 Tue"),
        ("0 0 29 2 *", "2096-03-01", "2104-02-29 00:00 Fri"),
        ("0 12 13 * fri", "2026-11-23", "2026-11-27 12:00 Fri"),
        ("0 12 */2 * fri", "2026-11-23", "2026-11-27 12:00 Fri"),
        ("0 0 * * 7", "2026-11-23", "2026-11-29 00:00 Sun"),
        ("5,10 1,2 * * *", "2026-11-23 01:07", "2026-11-23 01:10 Mon"),
        ("50/5 * * * *", "2026-11-23 01:51", "2026-11-23 01:55 Mon"),
        ("@hourly", "2026-11-23 16:05", "2026-11-23 17:00 Mon"),
        ("@weekly", "2026-11-23 16:05", "2026-11-29 00:00 Sun"),
        ("@yearly", "2026-11-23 16:05", "2027-01-01 00:00 Fri"),
    ],
)
def test_the_next_time(schedule: str, at: str, due: str) -> None:
    assert after(schedule, at) == due


def test_clocks_that_change() -> None:
    """29 March 2026: 02:00 becomes 03:00. 25 October 2026: 03:00 becomes 02:00."""
    assert after("30 2 * * *", "2026-03-28 12:00", BERLIN) == "2026-03-29 03:30 Sun"
    assert after("30 2 * * *", "2026-10-25 00:00", BERLIN) == "2026-10-25 02:30 Sun"
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN).timestamp()
    again = next_after(parse("30 2 * * *"), first, BERLIN)
    assert again is not None and datetime.fromtimestamp(again, BERLIN).day == 26


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * *", "has 6 fields"),
        ("60 * * * *", "'60' is no minute, which goes from 0 to 59"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of the month"),
        ("* * * foo *", "'foo' is no month"),
        ("* * * * 8", "'8' is no day of the week"),
        ("5-1 * * * *", "5 is more than 1"),
        ("*/0 * * * *", "after / comes a number from 1"),
        ("*/x * * * *", "after / comes a number from 1"),
        ("1,,2 * * * *", "'' is no minute"),
        ("-1 * * * *", "'-1' is no minute"),
        ("0 0 30 feb *", "is a day that never comes"),
        ("@reboot", "'@reboot' is none of @hourly"),
    ],
)
def test_what_is_no_schedule(schedule: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(schedule)
    assert words in str(caught.value)


@given(st.text("0123456789*/,-@ janmofri", max_size=20))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        schedule = parse(text)
    except ValueError:
        return
    due = next_after(schedule, 1_800_000_000.0, UTC)
    assert due is not None and due > 1_800_000_000.0 and due % 60 == 0
