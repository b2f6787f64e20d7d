"""Secrets at rest: encrypted, whole or unchanged, and refused with words when their key is not the one."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.errors import StoreError
from shoal.paths import StateFolder
from shoal.store.vault import Vault, key_path

VALUE = "correct horse battery staple"


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("SHOAL_KEY_FILE", str(tmp_path / "elsewhere" / "key"))
    return Vault(StateFolder(tmp_path / "app" / ".shoal"))


def files_of(tmp_path: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_value_comes_back_and_is_nowhere_on_the_disk(vault: Vault, tmp_path: Path) -> None:
    vault.set("TOKEN", VALUE, 5.0)
    assert vault.read() == {"TOKEN": VALUE}
    assert [(one.name, one.set_at) for one in vault.kept()] == [("TOKEN", 5.0)]
    assert not [path for path, data in files_of(tmp_path).items() if VALUE.encode() in data]
    assert {Path(path).stat().st_mode & 0o777 for path in files_of(tmp_path)} == {0o600}


def test_removed_is_gone(vault: Vault) -> None:
    vault.set("TOKEN", VALUE, 5.0)
    assert vault.remove("TOKEN")
    assert not vault.remove("TOKEN")
    assert vault.read() == {}


def test_what_is_generated_is_made_once(vault: Vault) -> None:
    vault.set("GIVEN", VALUE, 1.0)
    assert vault.generate({"SEED": 32, "GIVEN": 32}, 2.0) == ["SEED"]
    first = vault.read()
    assert vault.generate({"SEED": 32}, 3.0) == []
    assert vault.read() == first
    assert first["GIVEN"] == VALUE
    assert len(first["SEED"]) >= 42


def test_a_value_of_another_name_is_refused(vault: Vault, tmp_path: Path) -> None:
    vault.set("ONE", VALUE, 1.0)
    path = tmp_path / "app" / ".shoal" / "secrets.json"
    path.write_text(path.read_text().replace('"ONE"', '"TWO"'))
    with pytest.raises(StoreError, match="TWO was not encrypted with the key"):
        vault.read()


@pytest.mark.parametrize("harm", ["lost", "foreign", "damaged", "open"])
def test_without_its_key_nothing_is_read_and_nothing_lost(vault: Vault, tmp_path: Path, harm: str) -> None:
    vault.set("TOKEN", VALUE, 1.0)
    key, before = key_path().read_bytes(), files_of(tmp_path / "app")
    match harm:
        case "lost":
            key_path().unlink()
        case "foreign":
            key_path().write_bytes(key[:4].swapcase() + b"AAAA" + key[8:])
        case "damaged":
            key_path().write_bytes(key[:10])
        case "open":
            key_path().chmod(0o644)
    for attempt in (vault.read, lambda: vault.set("OTHER", "x" * 8, 2.0)):
        with pytest.raises(StoreError) as told:
            attempt()
        assert told.value.way_out
    key_path().write_bytes(key)
    key_path().chmod(0o600)
    assert {path: data for path, data in files_of(tmp_path / "app").items() if data} == {
        path: data for path, data in before.items() if data
    }
    assert vault.read() == {"TOKEN": VALUE}


def test_a_file_that_cannot_be_written_leaves_what_was_there(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.set("TOKEN", VALUE, 1.0)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StoreError, match="No space left on device; nothing has changed"):
        vault.set("TOKEN", "another value", 2.0)
    assert vault.read() == {"TOKEN": VALUE}
