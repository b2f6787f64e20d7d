"""Why a replica ended, read from its log."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from shoal.engines.local import endings, tails
from shoal.engines.local.tags import ReplicaTag
from shoal.model.replica import Address, TcpAddress

AT = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def log(*lines: tuple[str, str]) -> bytes:
    return "".join(f"2023-11-14T22:13:{second}Z {text}\n" for second, text in lines).encode()


def tag(address: Address | None = None) -> ReplicaTag:
    return ReplicaTag(
        replica="web-r1", service="web", number=1, attempt=1, address=address, health=None, hosts=None, asked_at=AT
    )


def test_the_tail_has_this_attempts_lines_without_their_stamps() -> None:
    text = log(("19.999999", "of the last attempt"), ("20.000000", "first"), ("21.500000", "  second: a b"))
    assert tails.select(text, since=AT) == ("first", "  second: a b")


def test_the_tail_has_at_most_twenty_lines() -> None:
    text = log(*((f"{20 + number}.000000", str(number)) for number in range(30)))
    assert tails.select(text, since=AT) == tuple(str(number) for number in range(10, 30))


def test_a_torn_or_foreign_line_is_left_out() -> None:
    text = b"0.000000Z torn\n\nnot stamped\n" + log(("20.000000", "good \xff"))
    assert tails.select(text, since=AT) == ("good \xff",)


def test_a_log_that_was_just_rotated_is_read_on(tmp_path: Path) -> None:
    (tmp_path / "a.log.1").write_bytes(log(("20.000000", "old")))
    (tmp_path / "a.log").write_bytes(log(("21.000000", "new")))
    assert tails.tail(tmp_path / "a.log", since=AT) == ("old", "new")


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(log(("20.000000", "x" * 1000)) * 1000 + log(("21.000000", "last")))
    assert tails.tail(tmp_path / "a.log")[-1] == "last"
    assert len(tails.tail(tmp_path / "a.log")) == 20


@pytest.mark.parametrize(
    ("argv", "how"),
    [
        (["nginx"], "nginx -g 'daemon off;'"),
        (["/bin/sh", "-c", "exec /usr/sbin/nginx -c x.conf"], "nginx -g 'daemon off;'"),
        (["redis-server", "--port", "1"], "redis-server --daemonize no"),
        (["gunicorn", "--daemon", "app:app"], "leave --daemon (-D) away"),
        (["./my-nginx-tool"], ""),
        (["python", "server.py"], ""),
    ],
)
def test_a_known_program_is_told_how_to_stay_in_the_foreground(argv: list[str], how: str, tmp_path: Path) -> None:
    assert endings.foreground(argv) == how
    end = endings.explain(replace(tag(), foreground=how), 0, tmp_path / "none.log", AT, left_behind=True)
    assert end.reason.endswith(f"run it in the foreground{': ' if how else ''}{how}")
    assert "left a process behind, which was ended too" in end.reason


def test_there_may_be_no_log(tmp_path: Path) -> None:
    assert tails.tail(tmp_path / "none.log") == ()


@pytest.mark.parametrize(
    ("code", "last", "reason"),
    [
        (70, "shoal: service 'web' could not import a:b: KeyError: 'X' (…/a.py, line 1)", "could not import a:b: "),
        (71, "shoal: service 'web' cannot serve a:b: it is None", "cannot serve a:b: it is None"),
        (70, "something else", "exit code 70"),
        (1, "shoal: service 'web' could not import a:b: an echo", "exit code 1"),
        (-9, "", "killed by signal 9"),
        (None, "", "ended, exit code unknown"),
    ],
)
def test_the_runners_last_line_is_the_reason(code: int | None, last: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "web-r1.log"
    path.write_bytes(log(("20.000000", "before"), ("20.000001", last)))
    found = endings.explain(tag(), code, path, AT + 1)
    assert found.reason.startswith(reason)
    assert found.tail == ("before", last)


def test_a_command_that_went_to_the_background_is_told_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = TcpAddress(host="127.0.0.1", port=server.getsockname()[1])
        found = endings.explain(tag(address), 0, tmp_path / "none.log", AT)
    assert "went to the background; run it in the foreground" in found.reason
