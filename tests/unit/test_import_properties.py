"""Whatever a compose file, a Dockerfile or a Procfile holds: a valid app file, or an error in words."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.errors import ShoalError
from shoal.spec.importing import dockerfile, import_file
from shoal.spec.importing.mapping import ImageFiles
from shoal.spec.importing.reading import Folder, parse_env
from shoal.spec.importing.steps import steps
from shoal.spec.importing.variables import Variables
from shoal.spec.load import load_text
from shoal.spec.references import Scope, fill

WORDS = r"""
web db a_b A.B localhost . .. ./x /x ../y x y:1 80 8000:80 8000-8002:80-82 127.0.0.1:1:2/udp 0 -1 70000 1.5 true null
${X} ${X:-y} ${X:?z} ${X $X $$ $$PORT ${PORT} ${web.url} ${port} http://web:80 db:5432 web redis nginx:1 postgres
python:3.12 uvicorn a:b --port 8000 -b :80 sh -c && exec CMD CMD-SHELL curl http://localhost:80/x service_healthy
service_completed_successfully always no on-failure never * [ ] { } ' " \ # é
"""
KEYS = """
build image command entrypoint environment env_file depends_on links ports expose volumes healthcheck deploy
profiles working_dir restart secrets configs extends scale networks container_name hostname labels stop_signal user
x-any unknown
"""
SOUND = {"build": ".", "command": "serve"}
INSTRUCTIONS = "FROM ARG ENV WORKDIR USER EXPOSE CMD ENTRYPOINT COPY ADD RUN HEALTHCHECK SHELL LABEL from"
words = st.sampled_from([*WORDS.split(), "\u2028", "\x07", "\n"])
texts = st.one_of(words, st.lists(words, max_size=4).map(" ".join), st.text(max_size=8))
leaves = st.one_of(texts, st.none(), st.booleans(), st.integers(-1, 70000), st.floats(allow_nan=False))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
names = st.sampled_from(["web", "db", "a_b", "a-b", "A.B", "localhost", "1", "", "x" * 80, "ü"])
services = st.dictionaries(
    names,
    st.dictionaries(st.sampled_from(KEYS.split()), trees, max_size=6).map(
        lambda parts: parts if len(parts) % 3 == 0 else parts | {"build": "."} if len(parts) % 2 else SOUND | parts
    ),
    min_size=1,
    max_size=4,
)
files = st.fixed_dictionaries(
    {"services": services}, optional={"name": leaves, "secrets": trees, "volumes": trees, "include": trees}
)
MORE = ["AS", "a", "--from=a", "--from=0", "<<EOF", "EOF", "[", '["a", "b"]', "\\", "A=1", 'B="x', "$A", "${A:-1}", "."]
dockerfiles = st.lists(
    st.tuples(st.sampled_from(INSTRUCTIONS.split()), st.lists(st.one_of(st.sampled_from(MORE), texts), max_size=5)).map(
        lambda line: f"{line[0]} {' '.join(line[1])}"
    ),
    max_size=12,
).map(lambda lines: "\n".join(["FROM python AS a", *lines]))
quick = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def check(name: str, data: bytes, docker: str = "", env: str = "") -> None:
    """Imports it. Raises nothing but what the command line shows in words."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / name).write_bytes(data)
        (folder / "Dockerfile").write_text(docker, encoding="utf-8", errors="replace")
        (folder / ".env").write_text(env, encoding="utf-8", errors="replace")
        (folder / "x").mkdir()
        (folder / "a.py").touch()
        try:
            result = import_file(folder / name, folder, "a-machine")
        except ShoalError as error:
            assert error.message and error.message.isprintable()
            return
        environ = {one.name: "set" for one in result.needed if one.required}
        app = load_text(result.text.encode(), "shoal.yaml", folder, environ, "a-machine")
        assert app.services or "jobs:" in result.text
        assert {row.service for row in result.rows}
        for row in result.rows:
            assert row.becomes
        for item in result.lost:
            assert item.where and item.why
        assert (folder / "shoal.yaml").exists() is False


@quick
@given(st.one_of(st.text(), st.lists(texts, max_size=30).map("\n".join)))
def test_any_text_is_imported_or_refused_in_words(text: str) -> None:
    check("compose.yaml", text.encode("utf-8", "surrogatepass"))


@quick
@given(files, st.one_of(dockerfiles, texts), st.lists(texts, max_size=3).map("\nX=".join))
def test_any_compose_file_is_imported_or_refused_in_words(data: object, docker: str, env: str) -> None:
    check("compose.yaml", yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "replace"), docker, env)


@quick
@given(dockerfiles, st.sampled_from(["", "serve", "uvicorn a:b", "/x/y --port 80"]))
def test_any_dockerfile_gives_a_valid_service_or_none(docker: str, command: str) -> None:
    service = f"{{build: ., ports: ['80:80'], command: '{command}'}}" if command else "{build: .}"
    check("compose.yaml", f"services: {{web: {service}, two: {{build: ., command: x}}}}".encode(), docker)


@quick
@given(st.one_of(st.text(), st.lists(st.tuples(names, texts).map(": ".join), max_size=5).map("\n".join)), texts)
def test_any_procfile_is_imported_or_refused_in_words(text: str, env: str) -> None:
    check("Procfile", text.encode("utf-8", "surrogatepass"), env=f"PORT={env}\nA={env}\nTOKEN={env}")


@quick
@given(st.binary(max_size=100), st.sampled_from(["compose.yaml", "Procfile", "other"]))
def test_any_bytes_are_imported_or_refused_in_words(data: bytes, name: str) -> None:
    check(name, data)


@given(st.text())
def test_any_dockerfile_is_read(text: str) -> None:
    stage = dockerfile.parse(f"FROM a\n{text}")
    if stage is not None:
        steps(stage)
        ImageFiles(Folder(Path("/nonexistent")), ".", stage).workdir("/app")


@given(st.one_of(texts, st.lists(st.sampled_from(list("${}:-?+ABPORT_ x")), max_size=20).map("".join)))
def test_a_reference_gives_what_compose_would(text: str) -> None:
    known = {"A": "1", "B": ""}
    variables = Variables(known)
    later = variables.later(text)
    if "PORT" in text.upper() or "." in text:
        return  # what cannot be written as it is
    environ = dict.fromkeys(variables.required, "")
    filled, flaws = fill(later, Scope(services=(), calls=(), has_port=False, environ=environ))
    assert not flaws
    assert filled == Variables(known).now(text)


@given(st.text())
def test_any_env_file_is_read(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_env(text).values())
