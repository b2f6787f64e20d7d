"""Pictures of the goods: one for each kind of thing that a name speaks of, in the colours of its make.

`pictures/` has them in the colours of the first palette. `address` and `draw` know the same names, so a browser keeps
some pictures for all the products.
"""

from __future__ import annotations

import re
from pathlib import Path

Palette = tuple[str, str, str, str, str]
"""Ground, shade on the ground, and of the thing: main, dark, light."""

PALETTES: dict[str, Palette] = {
    "lagoon": ("#e6eef0", "#cfdde1", "#2f6f7e", "#1d4b57", "#8fb9c2"),
    "harbour": ("#e5ebf2", "#cfd9e6", "#3a608f", "#233f63", "#9bb6d6"),
    "dune": ("#f5efe3", "#e9dfca", "#c79a5b", "#8d6835", "#ecd2a6"),
    "meadow": ("#eaf0e6", "#d6e1cf", "#5f8a5b", "#3d5f3b", "#a9c8a2"),
    "ember": ("#f5e8e2", "#e8d2c8", "#b4573a", "#7b3622", "#e5a78e"),
    "chalk": ("#eeedea", "#dfddd8", "#fbfaf8", "#8b877f", "#d3cfc7"),
    "plum": ("#f0eaf1", "#dfd3e1", "#84568c", "#583560", "#c6a5cc"),
}
PICTURES = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "pictures").glob("*.svg"))}


def address(name: str, number: int) -> str:
    words = re.findall("[a-z]+", name.lower())
    makes = list(PALETTES)
    return f"/art/{kind(words)}.{next((word for word in words if word in PALETTES), makes[number % len(makes)])}.svg"


def kind(words: list[str]) -> str:
    """By the last words that say what a thing is; what none of them says is a parcel."""
    for end in range(len(words), 0, -1):
        for start in range(max(0, end - 3), end):
            if (found := "-".join(words[start:end])) in PICTURES:
                return found
    return "parcel"


def draw(file: str) -> str | None:
    """An SVG; None: `address` gives no such name."""
    kind, _, make = file.removesuffix(".svg").partition(".")
    if kind not in PICTURES or make not in PALETTES:
        return None
    drawn = PICTURES[kind]
    for written, wanted in zip(PALETTES["lagoon"], PALETTES[make], strict=True):
        drawn = drawn.replace(written, wanted)
    return drawn
