# ruff: noqa: E501  a table with one case a line
"""`after`, `restart` and `stop_signal` in the app file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.model.app import App, Barrier, Restart
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError


def load(text: str) -> App:
    return load_text(text.encode(), "shoal.yaml", Path("/srv"), {}, "host")


def test_after_is_a_list_or_a_mapping_with_conditions() -> None:
    app = load(
        """\
services:
  db: {command: x}
  init: {command: x, restart: on-failure, stop_signal: SIGINT}
  one: {command: x, after: [db]}
  two: {command: x, after: {db: started, init: completed}}
"""
    )
    _, init, one, two = app.services
    assert (init.restart, init.stop_signal) == (Restart.ON_FAILURE, "SIGINT")
    assert (one.after, one.barriers, one.barrier("db")) == (("db",), (), Barrier.READY)
    assert (two.after, two.barrier("db"), two.barrier("init")) == (("db", "init"), Barrier.STARTED, Barrier.COMPLETED)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("after: {dbb: ready}", "after.dbb: there is no service 'dbb'; did you mean 'db'?"),
        ("after: {db: done}", "after: 'db' must be started or ready or completed"),
        (
            "after: {db: completed}",
            "after.db: 'db' never completes: it is always started again; give 'db' restart: on-failure, or never",
        ),
        ("after: [init]", "after[0]: 'init' is no server: it ends, and that counts; write after: {init: completed}"),
        (
            "after: {none: ready}",
            "after.none: 'none' has replicas: 0 and never gets ready; give it one, or remove this",
        ),
        ("restart: unless-stopped", "restart: must be always, on-failure or never; did you mean always?"),
        ("restart: no", "restart: must be always, on-failure or never; did you mean never?"),
        ("stop_signal: TERM", "stop_signal: must be a signal's name; write SIGTERM"),
        (
            "stop_signal: 9",
            "stop_signal: must be a signal's name; known: SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGKILL",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(entry: str, problem: str) -> None:
    text = f"services: {{db: {{command: x}}, init: {{command: x, restart: never}}, none: {{command: x, replicas: 0}}, web: {{command: x, {entry}}}}}"
    with pytest.raises(SpecError) as caught:
        load(text)
    (found,) = caught.value.problems
    assert str(found).partition("services.web.")[2] == problem


def test_the_defaults_can_say_how_services_end() -> None:
    app = load(
        "{defaults: {restart: never, stop_signal: SIGQUIT}, services: {a: {command: x}, b: {command: x, restart: always}}}"
    )
    assert [(s.restart, s.stop_signal) for s in app.services] == [
        (Restart.NEVER, "SIGQUIT"),
        (Restart.ALWAYS, "SIGQUIT"),
    ]
