"""What a target that cannot be imported says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.runner import loading
from shoal.runner.failures import EXIT_IMPORT, CannotServeError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A service's folder, first on the path; what it imports is forgotten."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(target: str, folder: Path) -> object:
    return loading.load(target, folder=str(folder), warn_after_s=60, give_up_after_s=60, say=pytest.fail)


FILES = {
    "svc_good.py": "app = 'it'\napplication = 'other'\nclass Box:\n    app = 'inner'\nbox = Box()\n",
    "svc_needs.py": "import shoal_no_such_package\n",
    "svc_syntax.py": "x = 1\ndef f(:\n",
    "svc_raises.py": "from svc_helper import check\n\ncheck()\n",
    "svc_helper.py": "def check():\n    raise ValueError('no DATABASE_URL\\nset it')\n",
    "svc_exits.py": "import sys\nsys.exit('wrong arguments')\n",
    "svc_half.py": "import svc_half_missing\n",
    "svc_package/__init__.py": "",
    "svc_package/web.py": "app = 'packaged'\n",
    "svc_stdlib.py": "import json\njson.loads('{')\n",
}


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("svc_good:app", "it"),
        ("svc_good:box.app", "inner"),
        ("svc_package.web:app", "packaged"),
    ],
)
def test_a_target_is_imported(target: str, found: str, folder: Path) -> None:
    write(folder)
    assert load(target, folder) == found


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "svc_needs:app",
            "could not import svc_needs:app: ModuleNotFoundError: No module named 'shoal_no_such_package' "
            "(…/svc_needs.py, line 1)",
        ),
        ("svc_syntax:app", "could not import svc_syntax:app: SyntaxError: invalid syntax (…/svc_syntax.py, line 2)"),
        ("svc_raises:app", "could not import svc_raises:app: ValueError: no DATABASE_URL (…/svc_helper.py, line 2)"),
        (
            "svc_exits:app",
            "could not import svc_exits:app: the module called sys.exit('wrong arguments') while it was imported "
            "(…/svc_exits.py, line 2)",
        ),
        ("svc_good:ap", "could not import svc_good:ap: svc_good has no 'ap'; did you mean svc_good:app?"),
        ("svc_good:zzz", "could not import svc_good:zzz: svc_good has no 'zzz'; it has app, application, Box, box"),
        (
            "svc_package.wob:app",
            "could not import svc_package.wob:app: there is no module svc_package.wob in {folder}; "
            "did you mean svc_package.web?",
        ),
        ("svc_god:app", "could not import svc_god:app: there is no module svc_god in {folder}; did you mean svc_good?"),
        ("svc_good", "could not import 'svc_good': write it as module:attribute, for example hello:app"),
        (":app", "could not import ':app': write it as module:attribute, for example hello:app"),
    ],
)
def test_a_target_that_cannot_be_imported_says_why_and_where(target: str, message: str, folder: Path) -> None:
    write(folder)
    with pytest.raises(CannotServeError) as caught:
        load(target, folder)
    assert caught.value.message == message.format(folder=folder)
    assert caught.value.exit_code == EXIT_IMPORT


def test_the_traceback_begins_at_the_users_file(folder: Path) -> None:
    write(folder)
    with pytest.raises(CannotServeError) as caught:
        load("svc_raises:app", folder)
    lines = caught.value.trace.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{folder}/svc_raises.py", line 3')
    assert "importlib" not in caught.value.trace
    assert lines[-2:] == ["ValueError: no DATABASE_URL", "set it"]


def test_an_error_deep_in_a_library_names_the_users_line(folder: Path) -> None:
    write(folder)
    with pytest.raises(CannotServeError, match=r"JSONDecodeError: .* \(…/svc_stdlib.py, line 2\)"):
        load("svc_stdlib:app", folder)


def test_a_missing_import_of_the_module_is_not_taken_for_a_missing_module(folder: Path) -> None:
    write(folder)
    with pytest.raises(CannotServeError, match="ModuleNotFoundError: No module named 'svc_half_missing'"):
        load("svc_half:app", folder)


def write(folder: Path) -> None:
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
