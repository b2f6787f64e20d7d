"""What the benchmarks make of their numbers."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from bench import load
from bench.__main__ import BEGIN, BENCHMARKS, END, keep, main, publish, report
from bench.load import Load
from bench.processes import cpu_ns, family, memory_kb
from bench.result import Measure, Result, Spread, table, to_plain


def measure(**changes: object) -> Measure:
    values: dict[str, object] = {
        "what": "hop",
        "unit": "µs",
        "ours": Spread.of([30.0, 10.0, 20.0]),
        "peers": {"nginx": Spread.of([10.0]), "Traefik": "not available here"},
        "target": "at most 1.1 x",
        "met": False,
    }
    return Measure(**(values | changes))  # type: ignore[arg-type]


def test_a_spread_has_its_median_and_its_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2.0, low=1.0, high=3.0, count=3)
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


def test_the_ratio_is_ours_by_theirs_and_none_without_a_number() -> None:
    made = measure()
    assert made.ratio("nginx") == 2.0
    assert made.ratio("Traefik") is None
    assert made.ratio("nobody") is None
    assert measure(peers={"idle": Spread.of([0.0])}).ratio("idle") is None


def test_the_table_keeps_the_rows_in_which_a_peer_is_ahead() -> None:
    text = table([Result(name="hop", title="One hop", measures=[measure()])])
    assert "| hop | 20 [10-30] µs | nginx 10 (2.00x); Traefik: not available here | at most 1.1 x | **no** |" in text


def test_numbers_of_our_own_stand_beside_without_a_ratio() -> None:
    made = measure(peers={}, beside={"of 10": Spread.of([2.0])})
    assert "| (Shoal: of 10 2) |" in table([Result(name="n", title="t", measures=[made])])


def test_a_measure_without_a_target_is_neither_met_nor_missed() -> None:
    assert table([Result(name="n", title="t", measures=[measure(target="", met=None)])]).endswith("|  |  |")


def test_results_are_kept_as_json_with_the_machine(tmp_path: Path) -> None:
    result = Result(name="hop", title="One hop", measures=[measure()], notes=["a note"])
    kept = json.loads(keep(result, tmp_path).read_text())
    assert kept["measures"] == to_plain(result)["measures"]
    assert kept["measures"][0]["peers"]["nginx"]["ratio"] == 2.0
    assert kept["machine"]["cpus"] == os.cpu_count()
    assert [path.name for path in tmp_path.iterdir()] == ["hop.json"]


def test_an_unknown_benchmark_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hop", "nothing"]) == 2
    assert "no benchmark nothing; there are: hop" in capsys.readouterr().err
    assert BENCHMARKS[0] == "hop"


def test_candidates_take_turns_and_none_comes_always_after_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fake(url: str, count: int, pids: object) -> Load:
        asked.append(url)
        return Load(1.0, 1.0)

    monkeypatch.setattr(load, "prefer", lambda pids: None)
    monkeypatch.setattr(load, "measure", fake)
    monkeypatch.setattr(load, "requests", lambda url, count: 1.0)
    found = load.rounds({name: (name, list) for name in "abc"}, 10, 3, {})
    assert "".join(asked) == "abcbcacab"
    assert {name: len(loads) for name, loads in found.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_peer_that_fails_is_told_and_takes_nobody_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(url: str, count: int, pids: object) -> Load:
        if url == "b":
            raise RuntimeError("b: connection refused")
        return Load(1.0, 1.0)

    monkeypatch.setattr(load, "prefer", lambda pids: None)
    monkeypatch.setattr(load, "measure", fake)
    monkeypatch.setattr(load, "requests", lambda url, count: 1.0)
    failed: dict[str, str] = {}
    found = load.rounds({name: (name, list) for name in "abc"}, 10, 3, failed, needed="a")
    assert {name: len(loads) for name, loads in found.items()} == {"a": 3, "c": 3}
    assert failed == {"b": "failed: b: connection refused"}
    with pytest.raises(RuntimeError):
        load.rounds({name: (name, list) for name in "abc"}, 10, 3, {}, needed="b")


def test_the_page_gets_the_table_and_keeps_its_own_words(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    text = report(
        [Result(name="hop", title="One hop", measures=[measure()], notes=["a note"])], {"up": "OSError: no\nway"}
    )
    publish(text, page)
    publish(text, page)
    written = page.read_text()
    assert written.startswith(f"before\n{BEGIN}\n\n") and written.endswith(f"\n{END}\nafter\n")
    assert written.count("| hop |") == 1 and "- `up` could not run: OSError: no way" in written
    assert "old" not in written
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks.md"]


def test_cpu_and_memory_of_a_process_are_read_from_proc() -> None:
    own = os.getpid()
    assert family(own)[0] == own
    before = cpu_ns([own])
    spent = time.process_time()
    while time.process_time() - spent < 0.02:
        pass
    assert cpu_ns([own]) - before > 5_000_000
    assert memory_kb(own, "Pss") > 1000
    assert cpu_ns([2**22 + 1]) == 0  # no such process
