"""Snapshots of source trees: what is part of one, what its digest depends on, and that nothing half-written counts."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.engines.local.sources import copying, digests, snapshots, tree
from shoal.engines.local.sources.copies import Copies
from shoal.engines.local.sources.snapshots import Snapshots, runs_in_place, source_of
from shoal.engines.local.sources.tree import listed
from shoal.errors import EngineError
from shoal.model.app import App, Command, Service


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def app_of(folder: Path, cwd: str = ".") -> tuple[Service, App]:
    service = Service(name="web", workload=Command(argv=("x",)), folder=os.path.normpath(folder / cwd))
    return service, App(name="a", services=(service,), folder=str(folder))


def names(folder: Path) -> set[str]:
    return {entry.path for entry in listed(folder).entries if not entry.is_folder}


RULES = {
    "a pattern holds in every folder": ({".gitignore": "*.log"}, {"a.log", "x/a.log"}, {"a.txt"}),
    "a negation takes back": ({".gitignore": "*.log\n!keep.log"}, {"a.log"}, {"keep.log", "x/keep.log"}),
    "a slash binds to the folder": ({".gitignore": "/top"}, {"top"}, {"x/top"}),
    "a nested file holds below itself": ({"x/.gitignore": "a.txt"}, {"x/a.txt"}, {"a.txt"}),
    "a nested file wins": ({".gitignore": "*.txt", "x/.gitignore": "!a.txt"}, {"a.txt"}, {"x/a.txt"}),
    "what is below a folder left out stays out": ({".gitignore": "x/\n!x/a.txt"}, {"x/a.txt"}, {"y"}),
    "shoalignore leaves out more": ({".shoalignore": "docs/"}, {"docs/a.md"}, {"a.md"}),
    "shoalignore wins over gitignore": ({".gitignore": "dist/", ".shoalignore": "!dist/"}, set(), {"dist/a.js"}),
    "the usual is left out": (
        {},
        {".env", ".env.local", "node_modules/a.js", "__pycache__/a.pyc", "a.pyc"},
        {"env.py"},
    ),
    "the usual can come back": ({".shoalignore": "!node_modules/"}, set(), {"node_modules/a.js"}),
    "git and shoal never do": ({".shoalignore": "!.git/\n!.shoal/\n!.venv/"}, {".git/a", ".shoal/a", ".venv/a"}, {"b"}),
    "a virtual environment is known by its file": ({}, {"env/pyvenv.cfg", "env/bin/x"}, {"src/a.py"}),
}


@pytest.mark.parametrize("name", RULES)
def test_rules(name: str, tmp_path: Path) -> None:
    rules, out, inside = RULES[name]
    write(tmp_path, rules | dict.fromkeys(out | inside, "x"))
    found = names(tmp_path)
    assert inside <= found
    assert not out & found


def test_the_rules_of_the_repository_hold_in_a_service_below_it(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    write(tmp_path, {".gitignore": "*.db\n/services/web/tmp", "services/web/a.py": "", "services/web/a.db": ""})
    write(tmp_path, {"services/web/tmp/b": ""})
    assert names(tmp_path / "services/web") == {"a.py"}


FILES = st.dictionaries(
    st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}\.py", fullmatch=True), st.text(max_size=8), min_size=1, max_size=6
)


@settings(max_examples=30, deadline=None)
@given(files=FILES, data=st.data())
def test_the_digest_is_of_names_contents_and_modes_alone(files: dict[str, str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as base:
        one, two = write(Path(base, "one"), files), Path(base, "elsewhere", "two")
        for name in data.draw(st.permutations(sorted(files))):
            write(two, {name: files[name]})
            os.utime(two / name, (1, data.draw(st.integers(1, 10**9))))
        store = Snapshots(Path(base, "sources"))

        def digest(folder: Path) -> str:
            return store.take(*app_of(folder), keep=False)[0]

        before = digest(one)
        assert digest(two) == before
        victim = two / data.draw(st.sampled_from(sorted(files)))
        how = data.draw(st.sampled_from(["content", "mode", "name", "gone"]))
        if how == "content":
            victim.write_text(victim.read_text() + "!")
        elif how == "mode":
            victim.chmod(0o755)
        elif how == "name":
            victim.rename(victim.with_suffix(".js"))
        else:
            victim.unlink()
        assert digest(two) != before


def test_a_snapshot_holds_what_was_there_whatever_happens_afterwards(tmp_path: Path) -> None:
    folder = write(tmp_path / "app", {"a.py": "old", "bin/run": "x", "empty.txt": ""})
    (folder / "bin/run").chmod(0o755)
    (folder / "uploads").mkdir()
    store = Snapshots(tmp_path / "sources")
    digest, _ = store.take(*app_of(folder), keep=True)
    write(folder, {"a.py": "new"})
    found = store.find(digest)
    assert (found.folder / "a.py").read_text() == "old"
    assert (found.folder / "uploads").is_dir()
    assert os.access(found.folder / "bin/run", os.X_OK)
    assert store.take(*app_of(folder), keep=True)[0] != digest


def test_an_unchanged_file_is_one_file_in_both_snapshots_and_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "app", {"a.py": "same", "b.py": "old"})
    for name in ("a.py", "b.py"):
        os.utime(folder / name, (1, 1))
    # As if all had been quiet for a while: what was changed just now is not believed.
    monkeypatch.setattr(digests, "RACY_NS", -(10**12))
    store = Snapshots(tmp_path / "sources")
    first = store.find(store.take(*app_of(folder), keep=True)[0])
    read: list[str] = []
    monkeypatch.setattr(digests, "hash_of", lambda chunks: read.append("".join(c.decode() for c in chunks)) or "h")
    write(folder, {"b.py": "newer"})
    monkeypatch.setattr(snapshots, "hash_of", lambda chunks: first_memory(tmp_path))
    second = store.find(store.take(*app_of(folder), keep=True)[0])
    assert read == ["newer"]
    assert (first.folder / "a.py").samefile(second.folder / "a.py")
    assert not (first.folder / "b.py").samefile(second.folder / "b.py")


def first_memory(folder: Path) -> str:
    return next((folder / "sources/memory").glob("*.json")).stem


def test_a_file_that_was_changed_just_now_is_read_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "app", {"a.py": "one"})
    service, app = app_of(folder)
    store = Snapshots(tmp_path / "sources")
    first, _ = store.take(service, app, keep=True)
    info = (folder / "a.py").stat()
    (folder / "a.py").write_text("two")  # of the same size, and perhaps in the same tick of the clock
    os.utime(folder / "a.py", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert store.take(service, app, keep=True)[0] != first


def test_links_inside_stay_links_and_what_is_outside_is_copied(tmp_path: Path) -> None:
    folder = write(tmp_path / "app", {"data/a.txt": "inside"})
    write(tmp_path / "out", {"lib/b.txt": "outside", "c.txt": "file"})
    (folder / "near").symlink_to("data/a.txt")
    (folder / "absolute").symlink_to(folder / "data")
    (folder / "lib").symlink_to(tmp_path / "out/lib")
    (folder / "c.txt").symlink_to("../out/c.txt")
    (folder / "nowhere").symlink_to("/does/not/exist")
    store = Snapshots(tmp_path / "sources")
    found = store.find(store.take(*app_of(folder), keep=True)[0]).folder
    assert os.readlink(found / "near") == "data/a.txt"
    assert os.readlink(found / "absolute") == "data"
    assert not (found / "lib").is_symlink() and (found / "lib/b.txt").read_text() == "outside"
    assert not (found / "c.txt").is_symlink() and (found / "c.txt").read_text() == "file"
    assert os.readlink(found / "nowhere") == "/does/not/exist"


def test_a_link_to_a_folder_around_it_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "out/app", {"a.py": ""})
    (folder / "up").symlink_to(tmp_path / "out")
    with pytest.raises(EngineError, match="leads to a folder that it is in itself") as refused:
        listed(folder)
    assert ".shoalignore" in refused.value.way_out


def test_sockets_and_pipes_are_left_out_and_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(tmp_path, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/sock")
        finally:
            os.close(here)
        found = listed(tmp_path)
    assert found.odd == ["pipe", "sock"]
    assert found.entries == []


def test_what_is_too_large_is_refused_with_the_biggest_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "BYTES_MAX", 1000)
    write(tmp_path, {"a.py": "x", "models/big/w.bin": "x" * 2000, "data/d.csv": "x" * 500})
    with pytest.raises(EngineError) as refused:
        listed(tmp_path)
    assert refused.value.message.index("models/") < refused.value.message.index("data/")
    assert ".shoalignore" in refused.value.way_out and "SHOAL_DATA_DIR" in refused.value.way_out


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "app", {"secret.key": "x"})

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied", str(folder / "secret.key"))

    monkeypatch.setattr(digests.Memory, "hash", refuse)
    with pytest.raises(EngineError, match=r"secret\.key cannot be read") as refused:
        Snapshots(tmp_path / "sources").take(*app_of(folder), keep=True)
    assert ".shoalignore" in refused.value.way_out


def test_a_file_that_never_holds_still_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "app", {"busy.log": "x"})
    monkeypatch.setattr(copying, "_same", lambda *_: False)
    store = Snapshots(tmp_path / "sources")
    with pytest.raises(EngineError, match="change while they are copied"):
        store.take(*app_of(folder), keep=True)
    assert list(store.known()) == []
    assert list((tmp_path / "sources").glob(".new-*")) == []


def test_a_full_disk_is_told_with_what_is_free_and_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "app", {"a.py": "x" * 3_000_000})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copying, "_write", full)
    store = Snapshots(tmp_path / "sources")
    with pytest.raises(EngineError, match=r"the disk is full \(.* MB free on the disk of .*, 3.0 MB are needed\)"):
        store.take(*app_of(folder), keep=True)
    assert list(store.known()) == []


def test_the_app_file_makes_no_revision_of_its_own(tmp_path: Path) -> None:
    folder = write(tmp_path, {"app/a.py": "", "app/shoal.yaml": "services: {}"}) / "app"
    assert [entry.path for entry in source_of(*app_of(folder)).entries] == ["a.py"]


def test_what_the_environment_is_made_from_is_part_of_it_wherever_it_is(tmp_path: Path) -> None:
    files = {"requirements.txt": "-e ./libs/common[x]\n", "libs/common/pyproject.toml": "[project]\nname='c'"}
    folder = write(tmp_path / "app", files | {"web/a.py": "", "other/b.py": ""})
    source = source_of(*app_of(folder, "web"))
    assert (source.base, source.folder) == (folder, "web")
    paths = {entry.path for entry in source.entries if not entry.is_folder}
    assert paths == {"requirements.txt", "libs/common/pyproject.toml", "web/a.py"}


PLACES = {".": False, "web": False, "../users": False, "/usr/share/x": True}


@pytest.mark.parametrize("cwd", PLACES)
def test_which_folders_run_in_place(cwd: str, tmp_path: Path) -> None:
    service, app = app_of(tmp_path / "shop", cwd)
    assert runs_in_place(service, app) is PLACES[cwd]


def test_half_of_a_snapshot_is_swept_and_a_damaged_one_taken_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "app", {"a.py": "text"})
    store = Snapshots(tmp_path / "sources")
    digest, _ = store.take(*app_of(folder), keep=True)
    (tmp_path / "sources/.new-killed").mkdir()
    store.sweep()
    assert not (tmp_path / "sources/.new-killed").exists()
    # What a crash of the machine does to a file that was not on the disk yet.
    file = store.find(digest).folder / "a.py"
    file.chmod(0o600)
    file.write_text("")
    store = Snapshots(tmp_path / "sources")
    assert store.take(*app_of(folder), keep=True)[0] == digest
    assert (store.find(digest).folder / "a.py").read_text() == "text"


async def nothing(_: str) -> None:
    pass


def test_what_a_program_writes_stays_in_its_copy_and_is_found(tmp_path: Path) -> None:
    import asyncio

    folder = write(tmp_path / "app", {"a.py": "code", "app.db": "seed"})
    store, copies = Snapshots(tmp_path / "sources"), Copies(tmp_path / "builds")
    snapshot = store.find(store.take(*app_of(folder), keep=True)[0])
    copy = asyncio.run(copies.ready(snapshot, "key", nothing))
    assert copies.written("key") == []
    (copy.folder / "app.db").write_text("seed and more")
    (copy.folder / "__pycache__").mkdir()
    write(copy.folder, {"__pycache__/a.pyc": "", "up/load.png": "new"})
    assert copies.written("key") == ["app.db", "up/load.png"]
    assert (snapshot.folder / "app.db").read_text() == "seed"
    copies.rescue("key", tmp_path / "left")
    assert (tmp_path / "left/app.db").read_text() == "seed and more"


def test_the_memory_costs_no_read_where_nothing_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "app", {f"m{i}.py": str(i) for i in range(20)})
    old = time.time_ns() - 10**12
    monkeypatch.setattr(digests, "RACY_NS", -(10**12))
    for file in folder.iterdir():
        os.utime(file, ns=(old, old))
    store = Snapshots(tmp_path / "sources")
    digest, _ = store.take(*app_of(folder), keep=True)
    monkeypatch.setattr(copying, "copy_hashed", None)
    opened: list[object] = []
    real = open
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a[0]) or real(*a, **k))
    assert store.take(*app_of(folder), keep=True)[0] == digest
    assert not [path for path in opened if str(path).startswith(str(folder))]
