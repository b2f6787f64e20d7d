"""The reference page is what the code says."""

from __future__ import annotations

from pathlib import Path

from shoal.spec.reference import markdown
from shoal.spec.schema import AppFile, DefaultsFile, GatewayFile, JobFile, ServiceFile

PAGE = Path(__file__).parents[2] / "docs/reference/app-file.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == markdown(), "run: python -m shoal.spec.reference > docs/reference/app-file.md"


def test_every_key_is_described_with_words() -> None:
    for model in (AppFile, ServiceFile, DefaultsFile, GatewayFile, JobFile):
        for name, field in model.model_fields.items():
            assert field.description, name
            assert f"| `{name}` |" in markdown()
