"""What a replica's process finds, and what the keeper remembers of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shoal.engines.local import sdk, surroundings, tags
from shoal.engines.local.environments import Environment
from shoal.engines.local.surroundings import Place
from shoal.engines.local.tags import ReplicaTag
from shoal.model.app import App, Command, PythonApp, Service
from shoal.model.replica import Address, TcpAddress, UnixAddress
from shoal.model.topology import DENIED, Edge, EdgeMap
from shoal.paths import StateFolder
from shoal.testing.apps import app, service

EDGES = EdgeMap(
    network=77,
    edges={
        pair: Edge(caller=pair[0], callee=pair[1], number=number)
        for number, pair in enumerate([("web", "api"), ("web", DENIED), ("api", DENIED)], 1)
    },
)
ENVIRONMENT = Environment(python=Path("/envs/1/bin/python"), folder=Path("/envs/1"))


def web(**more: object) -> tuple[App, Service]:
    it = service("web", calls=("api",), folder="/srv/web", **more)  # type: ignore[arg-type]
    return app(it, service("api", port=3001)), it


def place(**more: object) -> Place:
    fields: dict[str, object] = {"replica": "web-r1", "data_dir": Path("/data"), "environment": None, "named": True}
    return Place(**(fields | more))  # type: ignore[arg-type]


def variables(it: tuple[App, Service], where: Place, base: dict[str, str] | None = None) -> dict[str, str]:
    return surroundings.environment(base or {}, *it, EDGES, where)


def test_a_service_finds_itself_and_those_that_it_calls() -> None:
    found = variables(web(), place(port=21000))
    assert found.pop("SHOAL_MOVE_PORTS") == "3000:21000"
    assert found.pop("NODE_OPTIONS").startswith("--require ")
    assert found.pop("PYTHONPATH").endswith("/runner/preload")
    assert found == {
        "SHOAL_APP": "test",
        "SHOAL_SERVICE": "web",
        "SHOAL_REPLICA": "web-r1",
        "SHOAL_DATA_DIR": "/data",
        "API_URL": "http://api:3001",
        "API_HOST": "api",
        "API_PORT": "3001",
        "PORT": "21000",
    }


def test_without_names_the_address_of_the_edge_stands_for_the_callee() -> None:
    env = variables(web(), place(named=False))
    assert (env["API_URL"], env["API_HOST"]) == ("http://127.77.0.1:3001", "127.77.0.1")


def test_what_the_user_set_wins_and_is_filled_in() -> None:
    user = (("API_URL", "http://mine"), ("PEER", "${api.address}"), ("MY_PORT", "$PORT and ${port} and ${PORT}"))
    env = variables(web(env=user), place(port=21000))
    assert env["API_URL"] == "http://mine"
    assert env["PEER"] == "api:3001"
    assert env["MY_PORT"] == "21000 and 21000 and 21000"


def test_an_unknown_reference_is_left_as_it_is() -> None:
    assert variables(web(env=(("A", "${HOME} ${x.url} $PORTAL"),)), place(port=1))["A"] == "${HOME} ${x.url} $PORTAL"


def test_its_python_environment_comes_first_on_the_path() -> None:
    env = variables(web(), place(environment=ENVIRONMENT), {"PATH": "/usr/bin", "HOME": "/root"})
    assert env["PATH"] == "/envs/1/bin:/usr/bin"
    assert env["VIRTUAL_ENV"] == "/envs/1"
    assert env["HOME"] == "/root"


def test_the_sdk_is_behind_what_the_user_has_on_the_path() -> None:
    python = Environment(python=Path("/envs/a/bin/python"), folder=Path("/envs/a"))
    at = place(environment=python, sdk=Path("/envs/sdk"))
    assert variables(web(workload=PythonApp(module="a", attribute="b")), at)["PYTHONPATH"] == "/envs/sdk"
    mine = web(workload=PythonApp(module="a", attribute="b"), env=(("PYTHONPATH", "/mine"),))
    assert variables(mine, at)["PYTHONPATH"] == "/mine:/envs/sdk"
    assert "PYTHONPATH" not in variables(web(), place(sdk=Path("/envs/sdk")))


@pytest.mark.parametrize("whole", [False, True])
def test_a_service_without_shoal_finds_the_sdk_and_one_with_it_its_own(whole: bool, tmp_path: Path) -> None:
    state = StateFolder(tmp_path / ".shoal")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "__init__.py").write_text("")
    link = state.environments / "sdk" / "shoal" / "sdk"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "other")  # of a Shoal before an upgrade
    found = [sdk.folder(state) for _ in range(2)]
    assert found[0] == found[1] == state.environments / "sdk"
    path = [str(found[0])]
    if whole:
        (tmp_path / "site" / "shoal" / "sdk").mkdir(parents=True)
        for package in ("shoal", "shoal/sdk"):
            (tmp_path / "site" / package / "__init__.py").write_text("")
        path.append(str(tmp_path / "site"))
    # -S: none of this environment's packages, Shoal among them.
    script = f"import shoal{'' if whole else '.sdk.context'} as found; print(found.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PYTHONPATH": ":".join(path)}, capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip().startswith(path[-1])


def test_nothing_of_the_daemons_own_python_reaches_a_service() -> None:
    base = surroundings.base_environment(
        {
            "PATH": "/venv/bin:/usr/bin:/venv/bin/",
            "VIRTUAL_ENV": "/venv",
            "VIRTUAL_ENV_PROMPT": "(venv)",
            "PYTHONPATH": "/shoal",
            "PYTHONHOME": "/py",
            "SHOAL_TOKEN": "x",
            "UV_INDEX_OURS_PASSWORD": "x",
            "PIP_INDEX_URL": "x",
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            "PORT": "9",
            "PORTAL": "kept",
            "HOME": "/root",
        }
    )
    assert base == {"PATH": "/usr/bin", "PORTAL": "kept", "HOME": "/root", "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("node", "server.js", "--port", "${port}"), ["node", "server.js", "--port", "21000"]),
        (("serve", ":$PORT", "${PORT}", "$PORTAL"), ["serve", ":21000", "21000", "$PORTAL"]),
        (("curl", "${api.url}/x"), ["curl", "http://api:3001/x"]),
        # The shell knows $PORT, and what quotes are for.
        (("/bin/sh", "-c", "echo '$PORT' ${port}"), ["/bin/sh", "-c", "echo '$PORT' 21000"]),
    ],
)
def test_references_in_a_command_are_filled_in(argv: tuple[str, ...], expected: list[str]) -> None:
    it = web(workload=Command(argv=argv))
    assert surroundings.argv(*it, EDGES, place(port=21000)) == expected


def test_an_application_is_started_by_the_runner_in_its_own_interpreter() -> None:
    it = web(workload=PythonApp(module="shop.web", attribute="app"))
    where = place(environment=ENVIRONMENT, socket=Path("/run/web-r1.sock"), overlay=Path("/cache/1"))
    python, *rest = surroundings.argv(*it, EDGES, where)
    assert python == "/envs/1/bin/python"
    assert rest[0] == "-u"
    assert rest[1].endswith("/shoal/runner/__main__.py")
    assert rest[2:4] == ["web", "shop.web:app"]
    assert rest[4:] == ["--folder", "/srv/web", "--socket", "/run/web-r1.sock", "--overlay", "/cache/1"]


@pytest.mark.parametrize(
    "address", [None, UnixAddress(path="/run/x.sock"), TcpAddress(host="127.0.0.1", port=20_000)], ids=str
)
def test_a_tag_survives_the_keeper(address: Address | None) -> None:
    tag = ReplicaTag(
        replica="web-r1",
        service="web",
        number=2,
        attempt=3,
        address=address,
        health="/healthz",
        hosts="/hosts/web.hosts",
        asked_at=12.5,
    )
    assert tags.from_json(tag.to_json()) == tag


@pytest.mark.parametrize(
    "tag",
    [
        None,
        "text",
        {},
        {"kind": "proxy"},
        {"kind": "replica"},
        {"kind": "replica", "replica": "a", "attempt": 1, "address": {"planet": "mars"}},
    ],
)
def test_a_tag_that_is_no_replicas_is_left_alone(tag: object) -> None:
    assert tags.from_json(tag) is None
