"""What a service's environment is made from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shoal.engines.local import recipes
from shoal.engines.local.recipes import Recipe, Source
from shoal.errors import EngineError

PROJECT = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["idna>=3", "H11"]\n'
PACKAGED = PROJECT + '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
LOCK = 'version = 1\n[[package]]\nname = "shop"\n[[package]]\nname = "idna"\n[[package]]\nname = "h11"\n'
TOOLS = "[tool.ruff]\nline-length = 100\n"


def tree(root: Path, **files: str) -> None:
    """Files by their paths below `root`, which are no identifiers: call it with `**{...}`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def digest(recipe: Recipe) -> str:
    return recipes.digest(recipe, flags=(), interpreter=Path(sys.executable))


@pytest.mark.parametrize(
    ("files", "source", "where"),
    [
        ({}, Source.OWN, "svc"),
        ({"requirements.txt": "idna\n"}, Source.REQUIREMENTS, "."),
        ({"requirements.txt": "idna\n", "svc/requirements.txt": "h11\n"}, Source.REQUIREMENTS, "svc"),
        ({"pyproject.toml": PROJECT}, Source.PROJECT, "."),
        ({"pyproject.toml": PROJECT, "uv.lock": LOCK}, Source.LOCK, "."),
        ({"svc/pyproject.toml": PROJECT, "uv.lock": LOCK, "pyproject.toml": TOOLS}, Source.LOCK, "svc"),
        ({"svc/pyproject.toml": PROJECT, "svc/requirements.txt": "idna\n"}, Source.PROJECT, "svc"),
        ({"svc/pyproject.toml": TOOLS, "requirements.txt": "idna\n"}, Source.REQUIREMENTS, "."),
        ({"svc/pyproject.toml": '[project]\nname = "x"\n', "svc/requirements.txt": ""}, Source.REQUIREMENTS, "svc"),
        ({"svc/pyproject.toml": '[project]\nname = "x"\ndynamic = ["dependencies"]\n'}, Source.PROJECT, "svc"),
        ({"svc/requirements.txt": "idna\n", "pyproject.toml": PROJECT}, Source.REQUIREMENTS, "svc"),
        ({"../requirements.txt": "outside of the app\n"}, Source.OWN, "svc"),
    ],
)
def test_the_nearest_source_counts(files: dict[str, str], source: Source, where: str, tmp_path: Path) -> None:
    app = tmp_path / "app"
    tree(app, **files)
    (app / "svc").mkdir(parents=True, exist_ok=True)
    recipe = recipes.find(app / "svc", app)
    assert (recipe.source, recipe.folder) == (source, (app / where).resolve())
    assert recipe.builds == (source is not Source.OWN)


def test_a_venv_is_used_where_nothing_says_what_to_install(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "svc").mkdir()
    assert recipes.find(tmp_path / "svc", tmp_path).source is Source.VENV
    tree(tmp_path, **{"requirements.txt": "idna\n"})
    assert recipes.find(tmp_path / "svc", tmp_path).source is Source.REQUIREMENTS


def test_a_service_outside_of_the_app_has_what_its_own_folder_has(tmp_path: Path) -> None:
    tree(tmp_path, **{"requirements.txt": "idna\n", "elsewhere/x": "", "app/x": ""})
    assert recipes.find(tmp_path / "elsewhere", tmp_path / "app").source is Source.OWN


@pytest.mark.parametrize(
    ("name", "changed", "differs"),
    [
        ("requirements.txt", "-r sub/base.txt\nidna\nh11\n", True),
        ("sub/base.txt", "anyio\n", True),
        ("sub/limits.txt", "idna<3\n", True),
        ("lib/lib/code.py", "x = 2\n", True),
        ("lib/__pycache__/code.pyc", "x", False),
        ("lib/build/code.py", "x", False),
        ("other.txt", "x", False),
    ],
)
def test_the_digest_changes_with_all_that_is_included(name: str, changed: str, differs: bool, tmp_path: Path) -> None:
    tree(
        tmp_path,
        **{
            "requirements.txt": "-r sub/base.txt\nidna\n-e ./lib[extra]  # ours\n",
            "sub/base.txt": "--constraint=limits.txt\nhttpx\n-r ../requirements.txt\n",
            "sub/limits.txt": "idna<4\n",
            "lib/pyproject.toml": PACKAGED,
            "lib/lib/code.py": "x = 1\n",
        },
    )
    before = digest(recipes.find(tmp_path, tmp_path))
    tree(tmp_path, **{name: changed})
    assert (digest(recipes.find(tmp_path, tmp_path)) != before) == differs


def test_a_packaged_project_is_another_with_each_change_of_its_code(tmp_path: Path) -> None:
    tree(tmp_path, **{"pyproject.toml": PACKAGED, "shop/users.py": "x = 1\n"})
    recipe = recipes.find(tmp_path, tmp_path)
    assert recipe.packaged
    before = digest(recipe)
    tree(tmp_path, **{"shop/users.py": "x = 2\n"})
    assert digest(recipes.find(tmp_path, tmp_path)) != before


def test_a_project_that_is_not_packaged_stays_the_same_when_its_code_changes(tmp_path: Path) -> None:
    tree(tmp_path, **{"pyproject.toml": PROJECT, "shop/users.py": "x = 1\n"})
    before = digest(recipes.find(tmp_path, tmp_path))
    tree(tmp_path, **{"shop/users.py": "x = 2\n"})
    assert digest(recipes.find(tmp_path, tmp_path)) == before


def test_equal_inputs_in_two_folders_share_one_environment(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tree(tmp_path / name, **{"requirements.txt": "idna\n"})
    assert digest(recipes.find(tmp_path / "a", tmp_path)) == digest(recipes.find(tmp_path / "b", tmp_path))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"pyproject.toml": "[project"}, "pyproject.toml cannot be read: Expected ']'"),
        ({"pyproject.toml": PROJECT, "uv.lock": "= 1"}, "uv.lock cannot be read"),
        (
            {"pyproject.toml": PROJECT.replace("idna>=3", "Flask_Login"), "uv.lock": LOCK},
            "uv.lock is older than its pyproject.toml: it lacks Flask_Login; bring it up to date: uv lock",
        ),
        ({"requirements.txt": "idna\n-r missing.txt\n"}, "includes missing.txt in line 2, which does not exist"),
    ],
)
def test_inputs_that_cannot_be_used_say_why(files: dict[str, str], words: str, tmp_path: Path) -> None:
    tree(tmp_path, **files)
    with pytest.raises(EngineError) as caught:
        recipes.find(tmp_path, tmp_path)
    assert words in str(caught.value)
