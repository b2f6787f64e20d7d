"""The pages keep their promises: links lead somewhere, the README's app file is one, every word has its line."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from shoal.control import journal
from shoal.model import event
from shoal.model.replica import TRANSITIONS, ReplicaState
from shoal.model.rollout import ROLLOUT_TRANSITIONS, RolloutState
from shoal.model.status import Health
from shoal.spec.load import load_text

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if not {".shoal", "node_modules"} & set(path.parts)  # of whoever tried an example
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """As code hosts make them from headings: lower case, no punctuation, `-` for spaces."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.is_relative_to(ROOT) and found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("text", blocks(ROOT / "README.md", "yaml"))
def test_an_app_file_of_the_readme_is_valid(text: str, tmp_path: Path) -> None:
    for folder in set(re.findall(r"cwd: ([\w-]+)", text)):
        (tmp_path / folder).mkdir()
    app = load_text(text.encode(), "README.md", tmp_path, {}, "host")
    assert app.services


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    for page in folder.glob("[0-9]*.md"):
        assert f"]({page.name})" in index, page.name
        assert page.read_text().startswith(f"# {page.name[:4]}: ")


def journal_kinds() -> set[str]:
    """Of events that are kept, and those that the journal makes up from several."""
    source = inspect.getsource(journal)
    never = re.search(r"case \(?(\s*ev\.\w+\(\)(?:\s+\| ev\.\w+\(\))*)\s*\)?:\n\s+return \[\]", source)
    assert never is not None
    dropped = set(re.findall(r"ev\.(\w+)", never[1])) | {"ProbeSucceeded", "ProbeFailed"}
    made_up = set(re.findall(r'kind="(\w+)"', source))
    kept = {name for name, kind in vars(event).items() if inspect.isclass(kind) and kind.__module__ == event.__name__}
    return {name for name in kept if not name.startswith("_")} - dropped | made_up


def test_every_event_of_the_journal_is_in_the_glossary() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    kinds = journal_kinds()
    assert {"ReplicaExited", "CrashLoopDetected", "CallDenied"} <= kinds
    assert not [kind for kind in sorted(kinds) if f"`{kind}`" not in glossary]


def test_every_health_is_in_the_glossary() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    assert not [health for health in Health if f"`{health}`" not in glossary]


@pytest.mark.parametrize("state", list(ReplicaState))
def test_the_table_of_states_is_that_of_the_code(state: ReplicaState) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    page = page[: page.index("## States of a rollout")]
    row = re.search(rf"^\| `{state}` \|.*\|(.*)\|$", page, re.MULTILINE)
    assert row is not None
    leads_to = {after for (before, _), after in TRANSITIONS.items() if before is state and after is not state}
    assert set(re.findall(r"`([\w-]+)`", row[1])) == leads_to


@pytest.mark.parametrize("state", list(RolloutState))
def test_the_table_of_a_rollout_is_that_of_the_code(state: RolloutState) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    [section] = re.findall(r"^## States of a rollout\n(.*)", page, re.MULTILINE | re.DOTALL)
    row = re.search(rf"^\| `{state}` \|.*\|(.*)\|$", section, re.MULTILINE)
    assert row is not None
    leads_to = {after for (before, _), after in ROLLOUT_TRANSITIONS.items() if before is state and after is not state}
    assert set(re.findall(r"`([\w-]+)`", row[1])) == leads_to
