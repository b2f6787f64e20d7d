"""Whatever the file holds: an app or its problems, and every problem at a place within the file."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.model.app import App
from shoal.planner.environment import variable_prefix
from shoal.spec.barriers import cycles
from shoal.spec.check import label_from, name_flaw, parse_route
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError
from shoal.spec.schema import is_label
from shoal.spec.wire import decode, encode

ENVIRON = {"HOME": "/root", "EMPTY": "", "BROKEN": "\udcff"}
LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")

WORDS = """
app services gateway run command cwd port publish replicas env health calls after names routes web db x:y ${port}
${web.url} ${HOME} ${BROKEN} ${X:-1} $$ /users shop.localhost/ true null yes 0 1 80 -5 1e9 [] {} << *a &a !!str !x
"""
words = st.sampled_from(WORDS.split())
keys = st.one_of(words, st.text(max_size=4))
leaves = st.one_of(words, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)),
    max_leaves=25,
)
services = st.dictionaries(
    st.sampled_from(["web", "db", "a-b", "Bad", "localhost"]),
    st.dictionaries(
        st.sampled_from(
            ["run", "command", "cwd", "port", "publish", "replicas", "env", "health", "calls", "after", "names"]
        ),
        trees,
    ),
    max_size=4,
)
files = st.fixed_dictionaries({"services": services}, optional={"app": leaves, "gateway": trees})
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    try:
        app = load_text(data, "shoal.yaml", Path("/srv"), ENVIRON, "box")
    except SpecError as error:
        lines = LINE_END.split(text)
        for problem in error.problems:
            assert 1 <= problem.line <= len(lines), problem
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, problem
            assert problem.message
            assert str(problem).isprintable(), problem
            assert all(line.isprintable() for line in problem.excerpt())
        assert error.detail.encode()
    else:
        assert decode(App, encode(app)) == app


@quick
@given(st.text())
def test_any_text_is_an_app_or_problems_within_it(text: str) -> None:
    check(text)


@quick
@given(st.lists(st.one_of(words, st.sampled_from(list("{}[],:-?|>\"'%@&*! \n\t#")), st.just("\n  ")), max_size=40))
def test_any_soup_of_yaml_is_an_app_or_problems_within_it(parts: list[str]) -> None:
    check("".join(parts))


@quick
@given(st.one_of(trees, files))
def test_any_data_is_an_app_or_problems_within_it(data: object) -> None:
    check(yaml.safe_dump(data, allow_unicode=True))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_app_or_problems(data: bytes) -> None:
    try:
        load_text(data, "shoal.yaml", Path("/srv"), ENVIRON, "box")
    except SpecError:
        pass


labels = st.from_regex(r"\A[a-z0-9](?:[a-z0-9-]{0,8}[a-z0-9])?\Z")


@given(st.lists(labels, min_size=2, max_size=2, unique=True))
def test_two_services_never_share_their_variables(names: list[str]) -> None:
    assert variable_prefix(names[0]) != variable_prefix(names[1])


@given(st.text())
def test_a_label_made_from_any_text_is_one(text: str) -> None:
    assert is_label(label_from(text, "app"))
    assert name_flaw(text, "box") is None or not is_label(text) or name_flaw(text, "box")


@given(st.text())
def test_a_route_is_a_host_and_a_clean_path_or_words(key: str) -> None:
    parsed = parse_route(key)
    if isinstance(parsed, tuple):
        host, path = parsed
        assert host is None or (host == host.lower() and "/" not in host)
        assert path == "/" or (path.startswith("/") and not path.endswith("/"))
        assert parse_route((host or "") + path) == parsed


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3), max_size=6))
def test_a_cycle_is_found_exactly_when_there_is_one(graph: dict[str, list[str]]) -> None:
    graph = {node: [other for other in others if other in graph] for node, others in graph.items()}
    found = cycles(graph)
    for cycle in found:
        for node, follower in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            assert follower in graph[node]
    left = dict(graph)
    while free := [node for node, others in left.items() if not any(other in left for other in others)]:
        for node in free:
            del left[node]
    assert bool(found) == bool(left)
