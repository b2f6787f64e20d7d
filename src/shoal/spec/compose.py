"""YAML text -> plain data, and the place of everything in it.

YAML 1.2's core schema: `yes`, `on` and `3000:3000` are text, only `true` and `false` are booleans. Keys are always
text, as written. Anchors, aliases and `<<` work within bounds, so that a small file cannot become a large one.
Duplicate keys, unknown tags and a second document are problems. PyYAML scans and parses; its constructors, which turn
tags into Python objects, are not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from shoal.spec.document import Document, Loc, Mark, Place, end_of
from shoal.spec.problems import quoted

MAX_BYTES = 1_000_000
MAX_NODES = 10_000
"""Of the data with every alias written out."""
MAX_DEPTH = 50

_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_CORE_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_TRUE = re.compile(r"(?:true|True|TRUE)\Z")
_FALSE = re.compile(r"(?:false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]{1,100}|0o[0-7]{1,100}|0x[0-9a-fA-F]{1,100})\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_SPECIAL_FLOAT = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


def parse(data: bytes, file: str) -> Document:
    """Never raises for what the bytes hold: `problems` tells all that is wrong, and `plain` is what could be read."""
    if len(data) > MAX_BYTES:
        document = Document(file=file, text="")
        document.problems.append(document.at_value((), "the file is larger than 1 MB", "an app file is a short text"))
        return document
    try:
        text = data.decode("utf-8").removeprefix("\N{BYTE ORDER MARK}")
    except UnicodeDecodeError as error:
        document = Document(file=file, text=data[: error.start].decode("utf-8"))
        document.problems.append(
            document.at_mark(end_of(document.text), (), "the file is not UTF-8 text", "save it in the encoding UTF-8")
        )
        return document
    document = Document(file=file, text=text)
    try:
        _Composer(document).run()
    except _StopError as stop:
        document.plain = None
        document.problems.append(document.at_mark(stop.mark, (), stop.message, stop.way_out))
    return document


class _StopError(Exception):
    """The rest of the file cannot be understood."""

    def __init__(self, mark: Mark, message: str, way_out: str = "") -> None:
        self.mark, self.message, self.way_out = mark, message, way_out


@dataclass(slots=True)
class _Scalar:
    mark: Mark
    text: str
    value: Any


@dataclass(slots=True)
class _List:
    mark: Mark
    items: list[_Node] = field(default_factory=list)


@dataclass(slots=True)
class _Mapping:
    mark: Mark
    items: dict[str, tuple[Mark, _Node]] = field(default_factory=dict)
    merged: list[tuple[Mark, _Node]] = field(default_factory=list)
    """What stands after `<<`."""


_Node = _Scalar | _List | _Mapping


class _Composer:
    """Events -> nodes (aliases shared) -> plain data (aliases written out, counted)."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.anchors: dict[str, _Node | None] = {}
        """None: still open, so that an alias to it would be part of itself."""
        self.depth = 0
        self.count = 0

    def run(self) -> None:
        events = self._events()
        root: _Node | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    raise _StopError(_mark(event), "a second document starts here", "an app file holds one app")
                root = self._node(next(events), events)
        if root is not None:
            self.count = 0
            self.document.places[()] = Place(root.mark, root.mark)
            self.document.plain = self._plain(root, (), 0)

    def _events(self) -> Iterator[Event]:
        """PyYAML's events. Its own errors become ours; a bad escape raises ValueError or OverflowError there."""
        mark = Mark(0, 0, 0)
        try:
            for event in yaml.parse(self.document.text, Loader=yaml.SafeLoader):
                mark = _mark(event)
                yield event
        except yaml.MarkedYAMLError as error:
            where: Any = error.problem_mark or error.context_mark
            if where is not None:
                mark = Mark(where.line, where.column, where.index)
            what = " ".join(part for part in (error.context, error.problem) if part)
            brace = "$" in self.document.text[max(0, mark.index - 1) : mark.index]
            hint = "within { } and [ ], put a value that has ${...} in quotes" if brace else ""
            raise _StopError(mark, f"not YAML: {what}", hint) from None
        except yaml.reader.ReaderError as error:
            raise _StopError(
                end_of(self.document.text[: error.position]),
                f"the character U+{int(error.character):04X} cannot be in YAML",
            ) from None
        except (yaml.YAMLError, ValueError, OverflowError, IndexError) as error:
            raise _StopError(mark, f"not YAML: {error}") from None

    def _node(self, event: Event, events: Iterator[Event]) -> _Node:
        mark = _mark(event)
        self.count += 1
        if self.count > MAX_NODES:
            raise _StopError(mark, f"the file has more than {MAX_NODES:,} values")
        if isinstance(event, AliasEvent):
            if event.anchor not in self.anchors:
                raise _StopError(mark, f"there is no anchor &{event.anchor} before this")
            node = self.anchors[event.anchor]
            if node is None:
                raise _StopError(mark, f"*{event.anchor} is part of itself")
            return node
        anchor: str | None = event.anchor  # type: ignore[attr-defined]
        if anchor is not None:
            self.anchors[anchor] = None
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _StopError(mark, f"the file is nested deeper than {MAX_DEPTH} levels")
        node = self._composed(event, events, mark)
        self.depth -= 1
        if anchor is not None:
            self.anchors[anchor] = node
        return node

    def _composed(self, event: Event, events: Iterator[Event], mark: Mark) -> _Node:
        if isinstance(event, ScalarEvent):
            return self._scalar(event, mark)
        if isinstance(event, SequenceStartEvent):
            self._expect_tag(event.tag, "seq", mark)
            found = _List(mark)
            for item in events:
                if isinstance(item, SequenceEndEvent):
                    break
                found.items.append(self._node(item, events))
            return found
        assert isinstance(event, MappingStartEvent)
        self._expect_tag(event.tag, "map", mark)
        mapping = _Mapping(mark)
        for item in events:
            if isinstance(item, MappingEndEvent):
                break
            self._entry(mapping, item, events)
        return mapping

    def _entry(self, mapping: _Mapping, event: Event, events: Iterator[Event]) -> None:
        mark = _mark(event)
        merge = isinstance(event, ScalarEvent) and event.value == "<<" and event.style is None
        key = self._node(event, events)
        value = self._node(next(events), events)
        if not isinstance(key, _Scalar):
            self._complain(mark, "a key must be a plain word")
        elif merge:
            mapping.merged.append((mark, value))
        elif key.text in mapping.items:
            first = mapping.items[key.text][0]
            self._complain(
                mark, f"the key {quoted(key.text)} is here twice, first on line {first.line + 1}", "remove one"
            )
        else:
            mapping.items[key.text] = (mark, value)

    def _complain(self, mark: Mark, message: str, way_out: str = "") -> None:
        self.document.problems.append(self.document.at_mark(mark, (), message, way_out))

    def _expect_tag(self, tag: str | None, kind: str, mark: Mark) -> None:
        if tag not in (None, "!", _CORE_TAG + kind):
            self._unknown_tag(str(tag), mark)

    def _unknown_tag(self, tag: str, mark: Mark) -> None:
        self._complain(mark, f"the tag {quoted(tag)} has no meaning here", "remove it")

    def _scalar(self, event: ScalarEvent, mark: Mark) -> _Scalar:
        text: str = event.value
        if _UNUSABLE.search(text):
            self._complain(mark, "this text holds a NUL or half a surrogate pair, which no program can take")
            text = _UNUSABLE.sub("\N{REPLACEMENT CHARACTER}", text)
        plain = event.implicit[0]
        if event.tag is None or event.tag == "!":
            return _Scalar(mark, text, _resolve(text) if plain and event.tag is None else text)
        kind = str(event.tag).removeprefix(_CORE_TAG)
        value = text if kind == "str" else _resolve(text)
        fitting: dict[str, type | tuple[type, ...]] = {
            "str": str, "int": int, "float": (int, float), "bool": bool, "null": type(None),
        }  # fmt: skip
        if kind not in fitting:
            self._unknown_tag(str(event.tag), mark)
        elif not isinstance(value, fitting[kind]) or (isinstance(value, bool) and kind != "bool"):
            self._complain(mark, f"{quoted(text)} is no !!{kind}")
        return _Scalar(mark, text, value)

    def _plain(self, node: _Node, loc: Loc, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise _StopError(node.mark, f"with its aliases written out, the file has more than {MAX_NODES:,} values")
        if isinstance(node, _Scalar):
            return node.value
        if isinstance(node, _List):
            for i, item in enumerate(node.items):
                self._put_place((*loc, i), item.mark, item)
            return [self._plain(item, (*loc, i), depth + 1) for i, item in enumerate(node.items)]
        found: dict[str, Any] = {}
        for key, (mark, value) in self._flattened(node, 0).items():
            self._put_place((*loc, key), mark, value)
            found[key] = self._plain(value, (*loc, key), depth + 1)
        return found

    def _put_place(self, loc: Loc, key: Mark, node: _Node) -> None:
        self.document.places[loc] = Place(key, node.mark, node.text if isinstance(node, _Scalar) else None)

    def _flattened(self, node: _Mapping, depth: int) -> dict[str, tuple[Mark, _Node]]:
        """Its own keys, then those of what it merges; the first one named wins."""
        if not node.merged:
            return node.items
        found = dict(node.items)
        for mark, value in node.merged:
            for source in value.items if isinstance(value, _List) else [value]:
                self.count += 1
                if self.count > MAX_NODES or depth > MAX_DEPTH:
                    raise _StopError(mark, f"with its aliases written out, the file has more than {MAX_NODES:,} values")
                if not isinstance(source, _Mapping):
                    self._complain(mark, "'<<' takes a mapping, or a list of them")
                    continue
                inner = self._flattened(source, depth + 1)
                self.count += len(inner)
                for key, entry in inner.items():
                    found.setdefault(key, entry)
        return found


def _resolve(text: str) -> Any:
    """A plain scalar's value by YAML 1.2's core schema."""
    if _NULL.match(text):
        return None
    if _TRUE.match(text):
        return True
    if _FALSE.match(text):
        return False
    if _INT.match(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.match(text):
        return float(text)
    if _SPECIAL_FLOAT.match(text):
        return float(text.replace(".", "").lower())
    return text


def _mark(event: Event) -> Mark:
    mark: Any = event.start_mark
    return Mark(mark.line, mark.column, mark.index)
