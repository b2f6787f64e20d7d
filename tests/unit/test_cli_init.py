"""`shoal init`: each template is a valid app file and code that can be read; nothing is ever overwritten."""

from __future__ import annotations

import ast
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.cli.init import FOLDER, TEMPLATES, make
from shoal.cli.main import run
from shoal.errors import ConflictError, UsageError
from shoal.spec.load import load_app
from tests.unit.test_cli_commands import document, out


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_is_a_whole_app(template: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "shop"
    made = make(folder, template, "my-shop", 3456)
    app = load_app(folder, {}, "host")
    (service,) = app.services
    assert (app.name, service.name, service.port) == ("my-shop", "my-shop", 3456)
    files = {path for path in folder.rglob("*") if path.is_file()}
    assert {str(path.relative_to(folder)) for path in files} == set(made.files)
    assert made.files[-1] == "shoal.yaml"
    assert {"README.md", ".gitignore"} < set(made.files)
    assert any("test" in name for name in made.files)
    assert {"requirements.txt", "package.json"} & set(made.files)
    for path in files:
        text = path.read_text()
        assert "@" not in text.replace("@app.", ""), path
        if path.suffix == ".py":
            ast.parse(text)
        if path.suffix == ".json":
            json.loads(text)


def test_every_folder_of_templates_is_offered() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(TEMPLATES)


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ConflictError, match=r"README\.md is there already"):
        make(tmp_path, "flask", "web", 8080)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "README.md").unlink()
    (tmp_path / "app.py").symlink_to("nowhere")
    with pytest.raises(ConflictError):
        make(tmp_path, "flask", "web", 8080)
    make(tmp_path / "b", "flask", "web", 8080)
    with pytest.raises(ConflictError, match="and 5 more"):
        make(tmp_path / "b", "flask", "web", 8080)


@pytest.mark.parametrize("name", ["Shop", "a_b", "", "localhost", "x" * 64, "a: b"])
def test_a_name_that_cannot_be_one_writes_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a service's name"):
        make(tmp_path / "a", "flask", name, 8080)
    assert not (tmp_path / "a").exists()


def test_without_a_terminal_nothing_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = out(capsys, "init", "My Shop")
    assert said.endswith("my-shop is made; run it: cd My Shop && shoal up\n")
    assert document(capsys, "init", "b", "--template", "flask", "--name", "web", "--port", "99")["port"] == 99
    assert run(["init", "b", "--template", "flask"]) == 3
    assert "-> name another folder" in capsys.readouterr().err


def test_on_a_terminal_two_questions_are_asked_and_none_when_flags_answer(tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    line = [sys.executable, "-m", "shoal", "init", "shop"]
    with subprocess.Popen(line, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.write(main, b"flask\nweb\n")
        assert process.wait(30) == 0
    assert load_app(tmp_path / "shop", {}, "host").services[0].name == "web"
    line += ["--template", "flask", "--name", "other"]
    with subprocess.Popen([*line[:4], "b", *line[5:]], cwd=tmp_path, stdin=terminal, stdout=terminal) as process:
        assert process.wait(30) == 0
    os.close(terminal)
    os.close(main)
