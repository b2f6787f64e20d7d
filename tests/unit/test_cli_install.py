"""The unit that `shoal install` writes, and what is told to the manager that runs it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from shoal.cli.install import command
from shoal.cli.notify import notify
from shoal.cli.uninstall import command as uninstall
from shoal.cli.unit import Unit, text

APP = 'app: shop\nservices:\n  web: {command: "python -m http.server $PORT", port: 8080}\n'


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "50% off"
    folder.mkdir()
    (folder / "shoal.yaml").write_text(APP)
    return folder


def unit(**more: object) -> Unit:
    values: dict[str, object] = {
        "app": "shop",
        "file": "/srv/shop/shoal.yaml",
        "folder": "/srv/shop",
        "python": "/srv/venv/bin/python",
        "system": True,
        "user": "shop",
    }
    return Unit(**(values | more))  # type: ignore[arg-type]


def test_the_units_own_process_only_watches() -> None:
    lines = text(unit()).splitlines()
    assert "KillMode=process" in lines
    assert "Type=notify" in lines
    assert "ExecStart=/srv/venv/bin/python -m shoal supervise --file /srv/shop/shoal.yaml" in lines
    assert "ExecReload=/srv/venv/bin/python -m shoal upgrade --file /srv/shop/shoal.yaml" in lines
    assert "ExecStop=/srv/venv/bin/python -m shoal down --file /srv/shop/shoal.yaml" in lines
    assert "User=shop" in lines


def test_a_users_unit_names_no_user_and_no_folder_of_the_machine() -> None:
    words = text(unit(system=False, user=""))
    assert "User=" not in words
    assert "RuntimeDirectory" not in words
    assert "WantedBy=default.target" in words


def test_spaces_percents_and_dollars_are_the_files_and_not_systemds() -> None:
    words = text(unit(file='/srv/50% "off" $x/shoal.yaml'))
    assert '--file "/srv/50%% \\"off\\" $$x/shoal.yaml"' in words


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "shoal-shop.service"
    path.write_text(text(unit(python=shutil.which("true") or "", user="root", folder=str(tmp_path))))
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert "shoal-shop" not in done.stderr, done.stderr


def test_install_writes_the_unit_and_uninstall_removes_it(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "config" / "systemd" / "user" / "shoal-shop.service"
    done = CliRunner().invoke(command, ["-f", str(shop)])
    assert done.exit_code == 0, done.output
    assert "systemctl --user enable --now shoal-shop.service" in done.output
    assert "50%% off" in path.read_text()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    done = CliRunner().invoke(uninstall, ["-f", str(shop)])
    assert done.exit_code == 0, done.output
    assert not path.exists()


def test_a_unit_of_somebody_else_is_left_alone(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "config" / "systemd" / "user" / "shoal-shop.service"
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/bin/true\n")
    done = CliRunner().invoke(command, ["-f", str(shop)])
    assert done.exit_code != 0
    assert path.read_text().startswith("[Service]")


def test_print_writes_nothing(shop: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["-f", str(shop), "--print"])
    assert done.output.startswith("# Written by `shoal install`")
    assert not (tmp_path / "config").exists()


def test_a_manager_is_told_and_nobody_else(tmp_path: Path) -> None:
    assert not notify("READY=1", environ={})
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        assert notify("READY=1", "STATUS=3 ready", environ={"NOTIFY_SOCKET": path})
        assert manager.recv(100) == b"READY=1\nSTATUS=3 ready"
    os.unlink(path)
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": path})
