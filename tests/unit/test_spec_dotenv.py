"""Files of variables, and how they, `defaults` and `env` come together."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.model.app import App
from shoal.spec.dotenv import parse
from shoal.spec.load import load_app
from shoal.spec.problems import SpecError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("# note\n\n  A = 1  \n", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A= # nothing", {"A": ""}),
        ("A=one two # note", {"A": "one two"}),
        ("A=#1f2937", {"A": ""}),
        ("URL=http://x/#top", {"URL": "http://x/#top"}),
        ("A='one # two' # three", {"A": "one # two"}),
        ("A='it\\'s $HOME'", {"A": "it's $HOME"}),
        ('A="one\\ntwo\\t\\"x\\" \\$y"', {"A": 'one\ntwo\t"x" $y'}),
        ('A="one\ntwo"\nB=1', {"A": "one\ntwo", "B": "1"}),
        ("A=C:\\new\\table", {"A": "C:\\new\\table"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=x\nB=${A}/y\nC=$A-z", {"A": "x", "B": "x/y", "C": "x-z"}),
        ("A=${NO:-one}\nB=${EMPTY:-two}\nC=${EMPTY-three}", {"A": "one", "B": "two", "C": ""}),
        ("A=${FROM_SHELL}\nFROM_SHELL=mine\nB=$FROM_SHELL", {"A": "shell", "FROM_SHELL": "mine", "B": "shell"}),
        ("A=pa$$word\nB=5$", {"A": "pa$word", "B": "5$"}),
        ("FROM_SHELL\nUNSET_ANYWHERE", {"FROM_SHELL": "shell"}),
    ],
)
def test_what_is_written_and_what_it_means(text: str, found: dict[str, str]) -> None:
    assert parse(text, {"FROM_SHELL": "shell", "EMPTY": ""}) == (found, [])


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("A=1\nnot a line\nB=1", 2, 1, "this is no NAME=value"),
        ("A=1\n=x", 2, 1, "this is no NAME=value"),
        ('A="open\nB=1', 1, 3, 'the value of A has no closing "'),
        ("A='x' y", 1, 6, "after the value of A there is more than a comment"),
        ("A=1\nB=${NO}", 2, 3, "B: the variable NO is not set"),
        ("A=${", 1, 3, "A: '${' is no reference"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, line: int, column: int, message: str) -> None:
    _, faults = parse(text, {})
    assert [(f.line, f.column, f.message) for f in faults] == [(line, column, message)]


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_without_a_crash(text: str) -> None:
    found, faults = parse(text, {"HOME": "/root"})
    assert all(isinstance(value, str) for value in found.values())
    assert all(fault.line >= 1 and fault.column >= 1 for fault in faults)


@given(st.text(st.characters(blacklist_characters="'\\\r", blacklist_categories=("Cs",)), max_size=50))
def test_a_value_in_single_quotes_is_taken_as_it_is(value: str) -> None:
    assert parse(f"A='{value}'", {}) == ({"A": value}, [])


def load(tmp_path: Path, text: str, **environ: str) -> App:
    (tmp_path / "shoal.yaml").write_text(text)
    return load_app(tmp_path, environ, "host")


def refused(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    return [str(problem).partition("shoal.yaml:")[2] or str(problem) for problem in caught.value.problems]


def test_the_nearer_place_wins(tmp_path: Path) -> None:
    (tmp_path / "all.env").write_text("A=all.env\nB=all.env\nC=all.env\nD=all.env\nE=all.env\n")
    (tmp_path / "one.env").write_text("C=one.env\nD=one.env\nE=one.env\n")
    (tmp_path / "two.env").write_text("D=two.env\nE=two.env\n")
    app = load(
        tmp_path,
        """\
defaults:
  env_file: all.env
  env: {B: defaults, C: defaults}
  replicas: 2
  health: /up
services:
  web: {command: x, port: 80, env_file: [one.env, two.env], env: {E: service}}
  worker: {command: x, replicas: 1}
""",
    )
    web, worker = app.services
    assert dict(web.env) == {"A": "all.env", "B": "defaults", "C": "one.env", "D": "two.env", "E": "service"}
    assert dict(worker.env) == {"A": "all.env", "B": "defaults", "C": "defaults", "D": "all.env", "E": "all.env"}
    assert (web.replicas, web.health, web.env_files) == (2, "/up", ("all.env", "one.env", "two.env"))
    assert (worker.replicas, worker.health) == (1, None)


def test_a_problem_of_the_defaults_is_told_once_where_it_stands(tmp_path: Path) -> None:
    text = "defaults:\n  env: {A: '${NO}'}\n  run: x\nservices: {a: {command: x}, b: {command: x}}\n"
    variable, key = refused(tmp_path, text)
    assert variable == "2:13: defaults.env.A: the variable NO is not set; set it, or write ${NO:-default}"
    assert key.startswith("3:3: defaults.run: unknown key; known: env, env_file")


def test_a_file_that_is_missing_or_odd_is_a_problem_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "bad.env").write_text("PASSWORD=secret\nTOKEN=${NO}secret\nP='$PORT'\n")
    found = refused(
        tmp_path, "services:\n  a: {command: x, env_file: [no.env, bad.env]}\n  b: {command: x, env_file: 3}\n"
    )
    assert [line.partition(" ")[2] for line in found if "bad.env:" in line] == [
        "P: a literal $PORT, ${port} or ${service.part} cannot be written",
        "TOKEN: the variable NO is not set; set it, or put the value in single quotes",
    ]
    assert any(line.startswith("2:30: services.a.env_file[0]: ") and "cannot be read" in line for line in found)
    assert any("services.b.env_file: must be a file, or a list of files" in line for line in found)
    assert "secret" not in "".join(found)
