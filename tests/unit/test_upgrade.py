"""Which Shoal may take an app over from which."""

from __future__ import annotations

import pytest

from shoal.client.upgrade import is_newer, refuse_older
from shoal.errors import ConflictError


@pytest.mark.parametrize(
    ("version", "than", "newer"),
    [
        ("0.2.0", "0.1.0", True),
        ("0.10.0", "0.9.9", True),
        ("1.0", "0.99.99", True),
        ("0.1.0", "0.1.0", False),
        ("0.1.0", "0.2.0", False),
        ("0.1.1rc1", "0.1.0", True),
        ("nonsense", "0.1.0", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, than: str, newer: bool) -> None:
    assert is_newer(version, than) is newer


def test_an_older_shoal_leaves_the_app_of_a_newer_one_alone() -> None:
    refuse_older("0.1.0", "0.1.0")
    refuse_older("0.1.0", "0.2.0")
    with pytest.raises(ConflictError, match=r"Shoal 0\.3\.0 runs this app") as refused:
        refuse_older("0.3.0", "0.2.0")
    assert "0.3.0 or newer" in refused.value.way_out
