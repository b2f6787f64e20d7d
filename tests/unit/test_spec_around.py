"""`files`, `volumes`, `static`, `python` and `node` in the app file."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from shoal.control.revisions import digest
from shoal.model.app import App, Service
from shoal.model.surroundings import GivenFile, Static, Volume, VolumeKind
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError
from shoal.spec.wire import decode, encode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/app.conf").write_bytes(b"\x00$PORT")
    (tmp_path / "conf/run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "conf/run.sh").chmod(0o755)
    (tmp_path / "dist").mkdir()
    return tmp_path


def load(folder: Path, text: str) -> App:
    return load_text(text.encode(), "shoal.yaml", folder, {"WHERE": "conf"}, "box")


def one(folder: Path, entry: str, more: str = "") -> Service:
    return load(folder, f"services: {{web: {{command: x, port: 3000, {entry}}}}}\n{more}").services[0]


def test_files_are_read_into_the_revision(folder: Path) -> None:
    entry = "files: {/etc/app.conf: conf/app.conf, /opt//run: conf/run.sh, /etc/l: {content: 'l ${port} ${WHERE} $$x'}}"
    service = one(folder, entry)
    assert service.files == (
        GivenFile(target="/etc/app.conf", content=base64.b64encode(b"\x00$PORT").decode(), encoded=True),
        GivenFile(target="/opt/run", content=base64.b64encode(b"#!/bin/sh\n").decode(), encoded=True, executable=True),
        GivenFile(target="/etc/l", content="l ${port} conf $x"),
    )
    app = load(folder, f"services: {{web: {{command: x, port: 3000, {entry}}}}}")
    assert decode(App, encode(app)) == app
    before = digest(app, app.services[0])
    (folder / "conf/app.conf").write_text("other")
    changed = load(folder, f"services: {{web: {{command: x, port: 3000, {entry}}}}}")
    assert digest(changed, changed.services[0]) != before


def test_volumes_are_names_or_folders(folder: Path) -> None:
    entry = "volumes: ['data:/var/lib/app', 'shared:/up/:rw', './conf:/etc/app:ro', '${NO:-./conf}:/y']"
    for more in ("volumes: [shared]", "volumes: {shared: }", "volumes: {shared: {}}"):
        assert one(folder, entry, more).volumes == (
            Volume(target="/var/lib/app", source="data", kind=VolumeKind.OWN),
            Volume(target="/up", source="shared", kind=VolumeKind.SHARED),
            Volume(target="/etc/app", source=str(folder / "conf"), kind=VolumeKind.FOLDER, read_only=True),
            Volume(target="/y", source=str(folder / "conf"), kind=VolumeKind.FOLDER),
        )


def test_a_site_is_a_folder_of_files(folder: Path) -> None:
    app = load(
        folder, "services: {a: {static: dist, port: 1}, b: {static: {folder: dist, spa: true}, port: 2, cwd: conf}}"
    )
    assert [service.workload for service in app.services] == [Static(folder="dist"), Static(folder="dist", spa=True)]
    assert app.services[1].folder == str(folder / "conf")
    assert decode(App, encode(app)) == app


def test_versions_are_text(folder: Path) -> None:
    service = one(folder, "python: '3.10', node: 20")
    assert (service.python, service.node) == ("3.10", "20")
    job = load(folder, "services: {w: {command: x}}\njobs: {j: {command: x, node: v20.1, volumes: ['d:/d']}}").services[
        1
    ]
    assert (job.node, job.volumes[0].source) == ("20.1", "d")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("files: [a]", "must map absolute paths to files; write it like {/etc/app.conf: conf/app.conf}"),
        ("files: {etc/x: conf/app.conf}", "must be an absolute path; it starts with /"),
        ("files: {/a/../x: conf/app.conf}", "must be an absolute path, without '..' and control characters"),
        ("files: {/etc/hosts: conf/app.conf}", "that file is Shoal's: in it the service finds the others by name"),
        ("files: {/proc/x: conf/app.conf}", "nothing can be put there"),
        ("files: {/x: 7}", "must be a file, relative to the app file's folder; or give its text: {content: '...'}"),
        ("files: {/x: nothing}", "/nothing' cannot be read: No such file or directory; it is relative to the app file"),
        ("files: {/x: conf}", "/conf' is a folder; write it in 'volumes': [./conf:/x:ro]"),
        ("files: {/x: {}}", "has either 'source' or 'content'; name a file, or give its text"),
        ("files: {/x: {contents: a}}", "unknown key; did you mean 'content'?"),
        ("files: {/x: {content: '${other.url}'}}", "there is no service 'other'"),
        ("files: {/x: {content: a}}, names: env", "needs a file system of its own, which 'names: env' turns off"),
        ("volumes: data:/x", "must be a list; write it like [data:/var/lib/app]"),
        ("volumes: [data]", "has no target; write it like data:/var/lib/app, or ./folder:/srv/folder"),
        ("volumes: [data:x]", "its target, x, must be an absolute path"),
        ("volumes: ['data:/x:z']", "ends with an option that is not known; there are :ro and :rw"),
        ("volumes: ['./nothing:/x']", "/nothing' does not exist; make it;"),
        ("volumes: ['a:/x', 'b:/x/']", "/x is taken by 'a:/x' already; remove one"),
        ("files: {/x: {content: a}}, volumes: ['a:/x']", "/x is taken by 'files' already; remove one"),
        ("volumes: ['${port}/x:/x']", "a folder cannot depend on a port or another service"),
        ("volumes: ['${NO:-data}:x']", "its target, x, must be an absolute path"),
        ("volumes: ['a b:/x']", "starts with what is neither a name nor a folder"),
        ("static: dist", "a service has either 'command' or 'static'; remove one"),
        ("python: 3.10", "must be text: as a number, 3.10 is 3.1; put it in quotes, like '3.12'"),
        ("python: '2.7'", "must be a version of Python 3; write it like '3.12', or '3.12.1'"),
        ("node: lts", "must be a version of Node; write it like 20, or '20.11'"),
    ],
)
def test_what_is_wrong_is_told_with_the_way_out(folder: Path, entry: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        one(folder, entry)
    (problem,) = caught.value.problems
    assert message in str(problem)
    assert str(problem).startswith("shoal.yaml:1:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {web: {static: dist}}", "files are served on a port; add 'port'"),
        ("services: {web: {static: {spa: true}, port: 1}}", "'folder' is missing"),
        ("services: {web: {static: dist, port: 1, protocol: tcp}}", "files are served over HTTP; remove 'protocol'"),
        ("services: {web: {static: dist, port: 1, network: own, listen: 2}}", "a 'static' service is served where"),
        ("services: {web: {command: x}}\nvolumes: [a b]", "must be a list of names"),
        (
            "services: {web: {command: x}}\nvolumes: {a: {driver: x}}",
            "a shared volume has no options; write a list: [a]",
        ),
        ("services: {web: {external: 'a:1', volumes: ['a:/b']}}", "Shoal does not run what is 'external'"),
    ],
)
def test_what_does_not_go_together_is_told(folder: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(folder, text)
    (problem,) = caught.value.problems
    assert message in str(problem)
