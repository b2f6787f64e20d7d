"""README.zh-CN.md says what README.md says: the same shape, and made from the README of today."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH = (ROOT / "README.md").read_text("utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text("utf-8")
MARK = re.compile(r"\n<!-- README\.md: (\w+) -->\n$")
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
EACH_OTHER = {"README.md", "README.zh-CN.md"}


def prose(text: str) -> str:
    return BLOCK.sub("", MARK.sub("", text))


def links(text: str) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)) if target not in EACH_OTHER]


def shape(text: str) -> list[str]:
    """What stands at the beginning of each line that is no plain text: headings, list items, table rows."""
    return [found[1] for line in prose(text).splitlines() if (found := re.match(r"(#+ |- |\| |> )", line))]


def digest() -> str:
    """Of all words; line breaks do not count."""
    return hashlib.sha256(" ".join(ENGLISH.split()).encode()).hexdigest()[:16]


def test_headings_lists_and_tables_are_the_same() -> None:
    assert shape(CHINESE) == shape(ENGLISH)


def test_blocks_of_code_are_the_same() -> None:
    assert BLOCK.findall(CHINESE) == BLOCK.findall(ENGLISH)


def test_links_lead_to_the_same_places_in_the_same_order() -> None:
    assert links(CHINESE) == links(ENGLISH)
    assert "](README.zh-CN.md)" in ENGLISH and "](README.md)" in CHINESE


def test_commands_and_keys_are_the_same() -> None:
    """What stands in backquotes, but for words that a reader is to replace by their own."""
    plain = re.compile(r"`([^`]+)`")
    english, chinese = (
        sorted({re.sub(r"\s+", " ", code) for code in plain.findall(prose(t))}) for t in (ENGLISH, CHINESE)
    )
    assert [code for code in chinese if not re.search(r"[^\x00-\x7f]", code)] == [
        code for code in english if "FILE_OR_FOLDER" not in code
    ]


def test_it_is_in_chinese() -> None:
    characters = re.findall(r"[\u4e00-\u9fff]", CHINESE)
    assert len(characters) > 1000
    for paragraph in prose(CHINESE).split("\n\n"):
        assert (
            re.search(r"[\u4e00-\u9fff]", paragraph)
            or not re.search(r"[a-z]{4}", paragraph.replace("README", ""))
            or ("[English]" in paragraph or paragraph.startswith("# "))
        ), paragraph


def test_it_was_made_from_the_readme_of_today() -> None:
    mark = MARK.search(CHINESE)
    assert mark is not None, f"README.zh-CN.md must end with: <!-- README.md: {digest()} -->"
    assert mark[1] == digest(), (
        "README.md has changed: bring the same change into README.zh-CN.md, in Chinese, "
        f"and then end it with: <!-- README.md: {digest()} -->"
    )
