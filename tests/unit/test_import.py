"""Importing whole files: the samples, and what the command does with the result."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from shoal.cli import main as entry
from shoal.errors import ConflictError, UsageError
from shoal.model.app import App, Command, PythonApp
from shoal.spec.importing import Imported, find, import_file
from shoal.spec.importing.keys import accepts
from shoal.spec.importing.writing import write
from shoal.spec.load import load_app, load_text
from shoal.spec.problems import SpecError
from tests.unit import import_cases
from tests.unit.import_cases import CASES, GOLDEN, HOST, PAGE

WRITE = "look at the difference, then run: python -m tests.unit.import_cases"


def loaded(result: Imported, folder: Path) -> App:
    environ = {one.name: "set" for one in result.needed if one.required}
    return load_text(result.text.encode(), "shoal.yaml", folder, environ, HOST)


def compose(folder: Path, text: str, **files: str) -> Imported:
    """Imports a compose file with other files beside it; `web__Dockerfile` is web/Dockerfile."""
    folder.joinpath("compose.yaml").write_text(text)
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return import_file(folder / "compose.yaml", folder, HOST)


def test_there_are_twenty_samples() -> None:
    assert len(CASES) == 20


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_sample_becomes_a_valid_app_file(case: Path) -> None:
    result = import_cases.imported(case)
    app = loaded(result, case)
    assert app.services
    rows = {row.service for row in result.rows}
    assert len(rows) == len(result.rows)
    for row in result.rows:
        assert row.becomes and (row.becomes != "left out" or row.notes), row


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_sample_is_refused_only_for_the_variables_that_the_report_names(case: Path) -> None:
    result = import_cases.imported(case)
    required = {one.name for one in result.needed if one.required}
    try:
        load_text(result.text.encode(), "shoal.yaml", case, {}, HOST)
        assert not required
    except SpecError as error:
        missing = {problem.message.split()[2] for problem in error.problems}
        assert missing == required


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_carried_over_is_known(case: Path) -> None:
    assert (GOLDEN / f"{case.name}.txt").read_text() == import_cases.golden(case), WRITE


def test_the_table_of_the_how_to_is_of_today() -> None:
    assert PAGE.read_text() == import_cases.page(), WRITE


def test_an_import_runs_and_changes_nothing(tmp_path: Path) -> None:
    case = tmp_path / "case"
    shutil.copytree(CASES[0], case)
    before = {path: path.stat().st_mtime_ns for path in case.rglob("*")}
    import_file(case, case, HOST)
    assert {path: path.stat().st_mtime_ns for path in case.rglob("*")} == before


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "Dockerfile").write_text('FROM x\nCMD ["stolen"]\n')
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "linked").symlink_to(secret)
    result = compose(
        folder,
        "services:\n  a: {build: ../secret}\n  b: {build: linked}\n"
        "  c: {build: {context: ., dockerfile: ../secret/Dockerfile}}\n"
        "  d: {extends: {file: ../secret/x.yaml, service: d}, build: ., command: run}\n",
    )
    assert "stolen" not in result.text
    assert [row.service for row in result.rows if row.becomes != "left out"] == ["d"]
    assert any(item.where == "d.extends" for item in result.lost)


def test_a_plain_server_whose_module_is_there_is_run_by_shoal(tmp_path: Path) -> None:
    dockerfile = "FROM python\nWORKDIR /app\nCOPY src/ .\nCMD uvicorn main:app --host 0.0.0.0 --port 9000\n"
    result = compose(tmp_path, "services: {web: {build: .}}", Dockerfile=dockerfile, src__other="")
    app = loaded(result, tmp_path)
    assert isinstance(app.services[0].workload, Command)  # there is no src/main.py
    (tmp_path / "src/main.py").write_text("")
    app = loaded(import_file(tmp_path, tmp_path, HOST), tmp_path)
    service = app.services[0]
    assert service.workload == PythonApp(module="main", attribute="app")
    assert (service.port, service.folder) == (9000, str(tmp_path / "src"))


def test_a_name_that_another_service_has_stays_its_own(tmp_path: Path) -> None:
    result = compose(
        tmp_path,
        "services:\n  a_b: {build: ., command: x, environment: {U: 'http://a-b:1'}}\n"
        "  a-b: {build: ., command: y, environment: {U: 'http://a_b:2', PORT: 1}}\n",
    )
    app = loaded(result, tmp_path)
    assert [service.name for service in app.services] == ["a-b-2", "a-b"]
    assert app.services[0].calls == ("a-b",)


def test_a_service_is_imported_with_what_it_depends_on(tmp_path: Path) -> None:
    text = "services:\n  a: {build: ., command: x, depends_on: [b]}\n  b: {build: ., command: y, profiles: [p]}\n"
    text += "  c: {build: ., command: z}\n"
    compose(tmp_path, text)
    result = import_file(tmp_path, tmp_path, HOST, services=["a"])
    assert [service.name for service in loaded(result, tmp_path).services] == ["a", "b"]
    with pytest.raises(UsageError, match="no service 'd'"):
        import_file(tmp_path, tmp_path, HOST, services=["d"])
    with pytest.raises(UsageError, match="profile 'q'"):
        import_file(tmp_path, tmp_path, HOST, profiles=["q"])
    result = import_file(tmp_path, tmp_path, HOST, profiles=["p"])
    assert len(loaded(result, tmp_path).services) == 3


def test_a_secret_of_the_env_file_stays_there(tmp_path: Path) -> None:
    text = "services: {a: {build: ., command: x, environment: {K: '${API_KEY}', U: '${URL}', N: '${NAME:-x}'}}}"
    env = "API_KEY=hidden1\nURL=https://me:hidden2@host/\nNAME=shown\n"
    result = compose(tmp_path, text, **{".env": env})
    assert "hidden" not in result.text
    assert "${NAME:-shown}" in result.text
    assert {one.name for one in result.needed if one.required} == {"API_KEY", "URL"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold keys"),
        ("[]", "must hold keys"),
        ("services:", "no services"),
        ("services: {}", "no services"),
        ("services: [web]", "no services"),
        ("services: {web: 1}", "must be a mapping"),
        ("web: {build: .}", "version 1"),
        ("services: {web: {run: 'a:b', port: 1}}", "an app file already"),
        ("services: {web: {build: .}", "not YAML"),
        ("services: {a: &a {x: *a}}", "part of itself"),
    ],
)
def test_what_is_no_compose_file_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as raised:
        compose(tmp_path, text)
    assert message in raised.value.problems[0].message
    assert raised.value.problems[0].file == "compose.yaml"


def test_a_file_with_nothing_to_run_is_refused_with_all_reasons(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        compose(tmp_path, "services: {proxy: {image: nginx}, web: {build: ./none}}")
    assert "proxy: it is nginx" in raised.value.detail
    assert "./none does not exist" in raised.value.detail


def test_a_procfile_becomes_services(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(
        "# processes\nweb: gunicorn shop:app --workers 2 --log-file -\nworker_a: python jobs.py\nrelease: ./migrate\n"
    )
    (tmp_path / ".env").write_text("PORT=5000\nMODE=dev\nTOKEN=hidden\n")
    (tmp_path / "shop.py").write_text("")
    result = import_file(tmp_path, tmp_path, HOST)
    app = loaded(result, tmp_path)
    web, worker = app.services[:2]
    assert web.workload == PythonApp(module="shop", attribute="app")
    assert (web.name, web.port, web.replicas) == ("web", 5000, 2)
    assert (worker.name, worker.port) == ("worker-a", None)
    assert "hidden" not in result.text
    assert "MODE" in dict(web.env)
    assert result.rows[-1].becomes == "a job"


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "names no process"), ("web gunicorn", "line 1"), ("web: a\nweb: b", "a second time"), ("\xff", "line 1")],
)
def test_what_is_no_procfile_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "Procfile").write_text(text)
    with pytest.raises(UsageError, match=message):
        import_file(tmp_path / "Procfile", tmp_path, HOST)


def test_the_kind_is_found_by_name_and_content(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a compose file nor a Procfile"):
        find(tmp_path)
    (tmp_path / "Procfile").write_text("web: ./serve\n")
    (tmp_path / "processes").write_text("web: ./serve\n")
    assert import_file(tmp_path, tmp_path, HOST).kind == "procfile"
    assert import_file(tmp_path / "processes", tmp_path, HOST).kind == "procfile"
    (tmp_path / "compose.yml").write_text("services: {web: {build: ., command: x}}")
    assert import_file(tmp_path, tmp_path, HOST).kind == "compose"
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    with pytest.raises(UsageError, match="is a Dockerfile"):
        import_file(tmp_path / "Dockerfile", tmp_path, HOST)


def test_a_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    target = tmp_path / "shoal.yaml"
    write(target, "one\n", force=False)
    with pytest.raises(ConflictError, match="was left as it is"):
        write(target, "two\n", force=False)
    assert target.read_text() == "one\n"
    write(target, "two\n", force=True)
    assert target.read_text() == "two\n"
    assert [path.name for path in tmp_path.iterdir()] == ["shoal.yaml"]
    assert target.stat().st_mode & 0o777 == 0o644
    with pytest.raises(UsageError, match="is a folder"):
        write(tmp_path, "x", force=True)
    with pytest.raises(UsageError, match="cannot be written"):
        write(tmp_path / "no" / "shoal.yaml", "x", force=False)


def test_the_command_writes_and_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = tmp_path / "app"
    shutil.copytree(CASES[4], case)
    monkeypatch.chdir(case)
    assert entry.run(["import"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("SERVICE    BECOMES")
    assert "wrote shoal.yaml" in out
    app = load_app(case, os.environ, HOST)
    assert app.name == "coffeeshop"
    assert entry.run(["import"]) == ConflictError.exit_code
    assert "--force" in capsys.readouterr().err
    assert entry.run(["import", "--force", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "compose"
    assert {"service", "becomes", "notes"} == set(report["services"][0])
    assert {"not_carried_over", "needs", "not_needed", "file", "source"} < set(report)


def test_an_app_file_elsewhere_finds_the_folders(tmp_path: Path) -> None:
    case, out = tmp_path / "app", tmp_path / "deploy"
    shutil.copytree(CASES[4], case)
    out.mkdir()
    result = import_file(case, out, HOST)
    (out / "shoal.yaml").write_text(result.text)
    assert {service.folder for service in load_app(out, {}, HOST).services[:2]} == {str(case)}


def test_a_program_that_insists_on_its_port_is_told_or_gets_a_network_of_its_own(tmp_path: Path) -> None:
    dockerfile = 'FROM php:8\nCOPY . /srv\nWORKDIR /srv\nEXPOSE 80\nCMD ["./serve"]\n'
    result = compose(tmp_path, "services: {web: {build: ., ports: ['8080:80']}}", Dockerfile=dockerfile, serve="")
    assert loaded(result, tmp_path).services[0].port == 8080
    assert any("listens on 80 by itself" in note for note in result.rows[0].notes)
    if accepts("network", "own"):
        assert "network: own" in result.text and "listen: 80" in result.text


def test_a_huge_value_is_left_out_in_no_time(tmp_path: Path) -> None:
    text = 'services: {web: {build: ., command: serve, environment: {A: "%s", B: "1"}}}' % ("${" * 100_000)
    result = compose(tmp_path, text)
    assert loaded(result, tmp_path).services[0].env == (("B", "1"),)
    assert [item.where for item in result.lost] == ["web.environment"]


def test_what_is_too_much_for_an_app_file_is_told(tmp_path: Path) -> None:
    text = "services:\n" + "".join(
        f"  s{i}: {{build: ., command: a, environment: {{A: 1, B: 2}}}}\n" for i in range(900)
    )
    with pytest.raises(UsageError) as raised:
        compose(tmp_path, text)
    assert "10,000 values" in raised.value.detail
