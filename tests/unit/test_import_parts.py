"""The parts of an import: notations, Dockerfiles, commands, variables, hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.spec.importing import commands, dockerfile, paces
from shoal.spec.importing.commands import PythonServer
from shoal.spec.importing.mapping import ImageFiles
from shoal.spec.importing.notation import health_url, mounts, ports
from shoal.spec.importing.peers import Names
from shoal.spec.importing.reading import Folder, parse_env
from shoal.spec.importing.steps import go_program, steps
from shoal.spec.importing.variables import Variables, is_secret
from shoal.spec.importing.writing import scalar


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("3000", [(3000, None, "tcp")]),
        ("8000:3000", [(3000, 8000, "tcp")]),
        ("3000-3002", [(3000, None, "tcp"), (3001, None, "tcp"), (3002, None, "tcp")]),
        ("9090-9091:8080-8081", [(8080, 9090, "tcp"), (8081, 9091, "tcp")]),
        ("8000-8004:8000", [(8000, None, "tcp")]),
        ("127.0.0.1:8001:8001", [(8001, 8001, "tcp")]),
        ("127.0.0.1::5000", [(5000, None, "tcp")]),
        ("[::1]:6001:6001/udp", [(6001, 6001, "udp")]),
        ("70000:1", []),
        ("what", []),
        ("", []),
    ],
)
def test_ports_in_all_notations(written: str, expected: list[tuple[int, int | None, str]]) -> None:
    found, strange = ports([written])
    assert [(port.target, port.host, port.protocol) for port in found] == expected
    assert bool(strange) == (not expected)


def test_volumes_in_all_notations() -> None:
    found = mounts(["./a:/b:ro", "data:/c", "/d", {"type": "bind", "source": "e", "target": "/f"}])
    assert [(mount.source, mount.target, mount.kind) for mount in found] == [
        ("./a", "/b", "bind"), ("data", "/c", "volume"), ("", "/d", "volume"), ("e", "/f", "bind"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("curl -f http://localhost:8000/health || exit 1", (8000, "/health")),
        ("CMD wget -qO- http://127.0.0.1/x", (80, "/x")),
        ("curl localhost:9/ping", None),
        ("curl -sf localhost:9000/ping", (9000, "/ping")),
        ("python -c \"import urllib.request as u; u.urlopen('http://localhost:88/r?a=1')\"", (88, "/r?a=1")),
        ("pg_isready -U postgres", None),
        ("curl http://localhost:99999/", None),
    ],
)
def test_what_a_health_check_asks(test: str, expected: tuple[int, str] | None) -> None:
    assert health_url(test) == expected


@pytest.mark.parametrize(
    ("before", "after", "port"),
    [
        ("uvicorn main:app --host 0.0.0.0 --port 8000", "uvicorn main:app --host 127.0.0.1 --port $PORT", 8000),
        ("uvicorn main:app --port=81", "uvicorn main:app --port=$PORT", 81),
        ("uvicorn main:app", "uvicorn main:app --port $PORT", 8000),
        ("gunicorn a:b -b 0.0.0.0:8000", "gunicorn a:b -b 127.0.0.1:$PORT", 8000),
        ("gunicorn a:b --bind=:8000", "gunicorn a:b --bind=127.0.0.1:$PORT", 8000),
        ("gunicorn a:b", "gunicorn a:b", 8000),
        ("gunicorn -c conf.py a:b", None, 8000),
        ("flask run -p 5001", "flask run -p $PORT", 5001),
        ("python manage.py runserver 0.0.0.0:8000", "python manage.py runserver 127.0.0.1:$PORT", 8000),
        ("python manage.py runserver", "python manage.py runserver 127.0.0.1:$PORT", 8000),
        ("python -m http.server 8000", "python -m http.server $PORT", 8000),
        ("python app.py", None, None),
        ("cp -p 1234 x", None, None),
        ("./server -p 3000", None, None),
        ("./server -addr 0.0.0.0:3000", "./server -addr 127.0.0.1:$PORT", 3000),
        ("exec puma -b tcp://0.0.0.0:9292", "exec puma -b tcp://127.0.0.1:$PORT", 9292),
        ("a && php -S '0.0.0.0:80' x.php", 'a && php -S "127.0.0.1:$PORT" x.php', 80),
        ("serve --bind $HOST:$PORT", "serve --bind $HOST:$PORT", None),
        ("serve ${PORT:-4000}", "serve ${PORT:-4000}", 4000),
    ],
)
def test_the_port_of_a_command_is_moved_where_that_is_certain(before: str, after: str | None, port: int | None) -> None:
    heard = commands.listening(before, None)
    assert (heard.command, heard.moved, heard.port) == (after or before, after is not None, port)
    if "&&" not in before and "$" not in before and not before.startswith("exec"):
        words = commands.listening(before.split(), None)
        assert (words.command, words.moved, words.port) == ((after or before).split(), after is not None, port)


def test_a_short_flag_is_believed_when_the_port_is_known() -> None:
    assert commands.listening("./server -p 3000", 3000).command == "./server -p $PORT"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("uvicorn a.b:c --port 1 --reload", PythonServer(program="uvicorn", target="a.b:c")),
        (["python3", "-m", "uvicorn", "a:b", "-w", "4"], PythonServer(program="uvicorn", target="a:b", workers=4)),
        ("exec gunicorn a:b -w 2 -k uvicorn.workers.UvicornWorker",
         PythonServer(program="gunicorn", target="a:b", workers=2)),
        ("gunicorn 'a:create()'", None),
        ("gunicorn a", None),
        ("uvicorn a:b --factory", None),
        ("gunicorn a:b -w $WORKERS", None),
        ("migrate && gunicorn a:b", None),
        ("gunicorn a:b --chdir src", None),
    ],
)  # fmt: skip
def test_a_plain_python_server_is_known(command: str | list[str], expected: PythonServer | None) -> None:
    assert commands.python_server(command) == expected


DOCKERFILE = """
# syntax=docker/dockerfile:1
ARG VERSION=1
FROM base:${VERSION} AS build
ARG MODE=debug
ENV A=one B="two words" \\
    # a comment within
    C=$A-${MODE}
WORKDIR /src
RUN <<EOF
make all
EOF
COPY . .

FROM --platform=linux/amd64 build as run
WORKDIR app
EXPOSE 80 ${PORT:-8080}/tcp
COPY --from=build --chown=x /src/out ./
USER $A
HEALTHCHECK --interval=3s CMD curl -f http://localhost/
ENTRYPOINT ["serve", "--fast"]
CMD ["--all"]
FROM run AS test
ENTRYPOINT test it
"""


def test_a_stage_has_what_it_is_based_on() -> None:
    stage = dockerfile.parse(DOCKERFILE, {"MODE": "release"}, "run")
    assert stage is not None
    assert (stage.base, stage.workdir, stage.user) == ("base:1", "/src/app", "one")
    assert stage.env == {"A": "one", "B": "two words", "C": "-release"}  # of before the instruction
    assert stage.entrypoint == ("serve", "--fast") and stage.cmd == ("--all",)
    assert stage.exposed == ("80", "8080/tcp")
    assert stage.health == "curl -f http://localhost/"
    assert stage.runs == (("/src", "make all"),)
    last = dockerfile.parse(DOCKERFILE)
    assert last is not None and last.entrypoint == "test it" and last.cmd is None
    assert dockerfile.parse(DOCKERFILE, target="nope") is None
    assert dockerfile.parse("") is None


def test_paths_of_the_image_lead_back_to_the_context(tmp_path: Path) -> None:
    for name in ("svc/src/a.py", "svc/requirements.txt", "svc/run.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    text = (
        "FROM x AS b\nWORKDIR /b\nCOPY . .\nFROM x\nCOPY requirements.txt /app/\nCOPY src /app/src\nCOPY run.sh /go\n"
    )
    text += "COPY --from=b /b/dist /web\n"
    files = ImageFiles(Folder(tmp_path), "svc", dockerfile.parse(text))
    assert files.find("/app/src/a.py") == "svc/src/a.py"
    assert files.find("/go") == "svc/run.sh"
    assert files.find("/web/index.html") == "svc/dist/index.html"
    assert files.find("/etc/passwd") is None
    assert files.workdir("/app") == "svc"
    assert files.workdir("/app/src") == "svc/src"


def test_what_the_image_was_given() -> None:
    stage = dockerfile.parse(
        "FROM x AS b\nWORKDIR /s\nRUN go build -o /bin/app ./cmd\nFROM x\nCOPY --from=b /bin/app /run\n"
        "RUN set -e; apt-get update && apt-get install -y --no-install-recommends a b && pip install -r r.txt && "
        "pip install 'c>1' -i http://x d && npm ci"
    )
    assert stage is not None
    found = steps(stage)
    assert (found.system, found.python, found.node) == (["a", "b"], ["c>1", "d"], ["npm ci"])
    made = go_program(stage, "/run")
    assert made is not None and made[1:] == ("/s", "./cmd")


@pytest.mark.parametrize(
    ("text", "now", "later"),
    [
        ("a$$b", "a$b", "a$$b"),
        ("$A", "1", "${A:-1}"),
        ("${A:-2}", "1", "${A:-1}"),
        ("${X:-2}", "2", "${X:-2}"),
        ("${X-2}", "2", "${X:-2}"),
        ("${E:-2}", "2", "${E:-2}"),
        ("${E-2}", "", "${E:-}"),
        ("${X:-${A}}", "1", "${X:-1}"),
        ("${A:+y}${X:+z}", "y", "y"),
        ("${X:?why}", "", "${X}"),
        ("${X}", "", "${X:-}"),
        ("${X:-{}}", "{}", "{}"),
        ("${PORT:-80}", "80", "80"),
        ("${", "${", "$${"),
        ("$1", "$1", "$$1"),
        ("cost $$PORT", "cost $PORT", "cost $PORT"),
    ],
)
def test_variables_are_filled_in_or_stay_references(text: str, now: str, later: str) -> None:
    known = {"A": "1", "E": ""}
    assert (Variables(known).now(text), Variables(known).later(text)) == (now, later)


def test_env_files_are_read_as_compose_does() -> None:
    text = 'A=1 # one\nexport B=\'x $A\'\nC="y ${A}\\n"\nD=\nbad line\nE="two\nlines"\n# F=1\nG=${Z:-d}#e\n'
    assert parse_env(text) == {"A": "1", "B": "x $A", "C": "y 1\n", "D": "", "E": "two\nlines", "G": "d#e"}


def test_secrets_are_known_by_name_and_by_address() -> None:
    assert is_secret("DB_PASSWORD") and is_secret("SECRET_KEY") and is_secret("X", "redis://:p@h")
    assert is_secret("URL", "postgres://me:it@h/x") and not is_secret("KEYBOARD") and not is_secret("MONKEY")


@pytest.mark.parametrize(
    ("text", "variable", "expected"),
    [
        ("http://db:5432/x", "", [("db", 5432)]),
        ("postgres://u:p@db/x", "", [("db", None)]),
        ("db", "DB_HOST", [("db", None)]),
        ("db", "DATABASE", []),
        ("my-db:1,db-2:3,user.db:4", "", []),
        ("user-db:1,db:2", "", [("user-db", 1), ("db", 2)]),
        ("http://db:${PORT:-1}/", "", [("db", None)]),
        ("/db/x", "", []),
    ],
)
def test_hosts_in_texts(text: str, variable: str, expected: list[tuple[str, int | None]]) -> None:
    assert Names(["db", "user-db"]).found(text, variable) == expected


@pytest.mark.parametrize(
    "text", ["yes", "1", "", "a: b", "a #b", "- x", "*x", "a\nb", "\x7f", "null", "x:", "'\"", "..."]
)
def test_a_text_is_written_so_that_it_is_read_again(text: str) -> None:
    from shoal.spec.compose import parse

    for flow in (False, True):
        written = scalar(text, flow=flow)
        document = parse((f"[{written}]" if flow else f"x: {written}").encode(), "x")
        assert not document.problems
        assert document.plain == ([text] if flow else {"x": text})


@pytest.mark.parametrize(
    ("written", "expected"),
    [("10s", "10s"), ("500ms", "500ms"), ("1m30s", "90s"), ("1h", "3600s"), ("10", None), ("soon", None), (None, None)],
)
def test_a_pace_of_compose_becomes_one_of_ours(written: object, expected: str | None) -> None:
    assert paces._pause(written) == expected
