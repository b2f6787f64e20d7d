"""Versions, as people ask for them: `3.12`, `>=3.11,<4`, `^20 || >=22`. Pure."""

from __future__ import annotations

import re

_CLAUSE = re.compile(r"(~=|===?|!=|>=|<=|>|<|\^|~)?\s*v?([0-9]+(?:\.[0-9]+)*)((?:\.[*xX])*)")


def numbers(version: str) -> tuple[int, ...]:
    """`v20.11.0` -> (20, 11, 0); empty: it is no version."""
    found = re.match(r"v?([0-9]+(?:\.[0-9]+)*)", version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def begins(version: str, wanted: str) -> bool:
    """Whether a version is the one that is meant by its beginning: 3.12.1 is 3.12, and 3.1 is not."""
    meant = numbers(wanted)
    return bool(meant) and numbers(version)[: len(meant)] == meant


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version is in a range, as in `requires-python` or in package.json's `engines`. What is not understood
    forbids nothing."""
    return any(_all(numbers(version), part) for part in wanted.split("||"))


def _all(version: tuple[int, ...], clauses: str) -> bool:
    if re.search(r"\s-\s", clauses):
        low, high = re.split(r"\s-\s", clauses, maxsplit=1)
        clauses = f">={low.strip()} <={high.strip()}"
    return all(_one(version, *found.groups()) for found in _CLAUSE.finditer(clauses))


def _one(version: tuple[int, ...], sign: str | None, text: str, wildcard: str) -> bool:
    meant = numbers(text)
    begin = version[: len(meant)]
    match sign:
        case None | "==" | "===":
            return begin == meant
        case "!=":
            return begin != meant
        case ">=":
            return version >= meant
        case ">":
            return begin > meant
        case "<=":
            return begin <= meant
        case "<":
            return version < meant
        case "^":
            return version >= meant and version[:1] == meant[:1]
        case "~=":
            return version >= meant and version[: len(meant) - 1] == meant[:-1]
        case _:  # npm's ~
            return version >= meant and version[: min(len(meant), 2)] == meant[:2]
