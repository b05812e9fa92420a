"""RFC 6902 JSON Patch on plain JSON: parse, apply whole or not at all, and the way back (diff).

Law of this file: values are never changed in place. A patch gives a new document that shares with
the old one what it did not touch, so a refused patch costs nothing and undoes itself.

Work is bounded by the patch, not by what it asks for: thirty `copy` operations double a document to
a billion values, so what `copy` and `move` duplicate is paid from one budget.

Source: RFC 6902 (operations), RFC 6901 (pointers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from laneway.actors.sync.lib0 import refuse
from laneway.actors.sync.values import JSON_LIMITS, Json, JsonLimits, parse_json, same

__all__ = ["PATCH_LIMITS", "Operation", "PatchLimits", "apply", "diff", "parse", "parse_operations", "pointer"]

Path = tuple[str, ...]

_FIELDS: Final = {
    "add": "value",
    "replace": "value",
    "test": "value",
    "remove": "",
    "move": "from",
    "copy": "from",
}


@dataclass(frozen=True, slots=True)
class PatchLimits:
    """Bounds of one patch.

    Attributes:
        operations: operations in it.
        path_chars: longest pointer.
        copied: values plus characters that its copies and moves may duplicate.
        json: bounds of its text and values; `json.depth` bounds the result too.
    """

    operations: int = 1_000
    path_chars: int = 1_024
    copied: int = 262_144
    json: JsonLimits = JSON_LIMITS


PATCH_LIMITS: Final = PatchLimits()


class Operation(NamedTuple):
    """One checked operation; pointers are split into unescaped tokens."""

    op: str
    path: Path
    value: Json = None
    source: Path = ()
    """`from` of move and copy."""


def pointer(tokens: Sequence[str | int]) -> str:
    """Join tokens to an RFC 6901 pointer."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


def parse(body: bytes, limits: PatchLimits = PATCH_LIMITS) -> list[Operation]:
    """Read a patch from JSON text. O(bytes). Raises PeerProtocolError."""
    return _operations(parse_json(body, limits.json), limits)


def parse_operations(operations: Sequence[Any], limits: PatchLimits = PATCH_LIMITS) -> list[Operation]:
    """Read a patch from parsed values, which `values.check` let pass. Raises PeerProtocolError."""
    return _operations(list(operations), limits)


def _operations(rows: Json, limits: PatchLimits) -> list[Operation]:
    if not isinstance(rows, list):
        refuse("BAD_PATCH", "a JSON patch is an array of operations")
    if len(rows) > limits.operations:
        refuse("TOO_MANY_ITEMS", f"{len(rows)} operations; the limit is {limits.operations}")
    return [_operation(row, limits) for row in rows]


def _operation(row: Json, limits: PatchLimits) -> Operation:
    if not isinstance(row, dict):
        refuse("BAD_PATCH", "an operation is an object")
    op = row.get("op")
    if not isinstance(op, str) or op not in _FIELDS:
        refuse("BAD_PATCH", f"operation {str(op)[:40]!r} is not one of {', '.join(_FIELDS)}")
    needed = _FIELDS[op]
    if needed and needed not in row:
        refuse("BAD_PATCH", f"operation {op} needs a {needed!r}")
    path = _tokens(row.get("path"), limits)
    source = _tokens(row["from"], limits) if needed == "from" else ()
    if op == "move" and len(path) > len(source) and path[: len(source)] == source:
        refuse("BAD_PATCH", "a value cannot be moved into itself")
    return Operation(op, path, row.get("value") if needed == "value" else None, source)


def _tokens(text: Json, limits: PatchLimits) -> Path:
    if not isinstance(text, str) or len(text) > limits.path_chars or (text and text[0] != "/"):
        refuse("BAD_PATCH", f"a path is a JSON pointer ('' or '/...') of at most {limits.path_chars} characters")
    parts = text.split("/")[1:]
    if "~" not in text:
        return tuple(parts)
    if any("~" in part.replace("~0", "").replace("~1", "") for part in parts):
        refuse("BAD_PATCH", "in a pointer '~' is written ~0 and '/' is written ~1")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def apply(document: Json, operations: Sequence[Operation], limits: PatchLimits = PATCH_LIMITS) -> Json:
    """Return the patched document; the given one is untouched. O(touched containers + copied values).

    Raises PeerProtocolError: TEST_FAILED, PATCH_FAILED (a path is not there), DEPTH_EXCEEDED, TOO_LARGE.
    """
    work = _Work(document, limits)
    for operation in operations:
        work.run(operation)
    return work.document


class _Work:
    """One patch being applied; containers copied for it already are changed in place."""

    __slots__ = ("_budget", "_depth", "_own", "document")

    def __init__(self, document: Json, limits: PatchLimits) -> None:
        self.document = document
        self._budget = limits.copied
        self._depth = limits.json.depth
        self._own: dict[int, Json] = {}

    def run(self, operation: Operation) -> None:
        """Apply one operation. Raises PeerProtocolError."""
        op, path, value, source = operation
        if op == "test":
            if not same(self._get(path), value):
                refuse("TEST_FAILED", f"the value at {pointer(path)!r} is another one; nothing was changed")
        elif op == "remove":
            self._remove(path)
        elif op == "replace":
            self._get(path)
            self._put(path, value, insert=False)
        elif op == "add":
            self._put(path, value, insert=True)
        else:
            value = self._duplicate(self._get(source))
            if op == "move":
                self._remove(source)
            self._put(path, value, insert=True)

    def _get(self, path: Path) -> Json:
        node = self.document
        for token in path:
            node = node[_slot(node, token, path)]
        return node

    def _owner(self, path: Path) -> Json:
        """Return the container that holds the last token, copied with all above it (once)."""
        node = self.document = self._mine(self.document)
        for token in path[:-1]:
            slot = _slot(node, token, path)
            child = node[slot] = self._mine(node[slot])
            node = child
        return node

    def _mine(self, node: Json) -> Json:
        if id(node) in self._own:
            return node
        if isinstance(node, dict):
            node = dict(node)
        elif isinstance(node, list):
            node = list(node)
        else:
            return node
        self._own[id(node)] = node
        return node

    def _remove(self, path: Path) -> None:
        if not path:
            refuse("PATCH_FAILED", "the whole document cannot be removed; replace it")
        owner = self._owner(path)
        del owner[_slot(owner, path[-1], path)]

    def _put(self, path: Path, value: Json, *, insert: bool) -> None:
        if len(path) + _depth(value) > self._depth:
            refuse("DEPTH_EXCEEDED", f"the document would nest deeper than {self._depth} levels")
        if not path:
            self.document = value
            return
        owner = self._owner(path)
        if isinstance(owner, list) and insert:
            owner.insert(_slot(owner, path[-1], path, end=True), value)
        elif isinstance(owner, dict):
            owner[path[-1]] = value
        else:
            owner[_slot(owner, path[-1], path)] = value

    def _duplicate(self, value: Json) -> Json:
        """Copy a value deeply, paying for it."""
        self._budget -= 1 + (len(value) if isinstance(value, str) else 0)
        if self._budget < 0:
            refuse("TOO_LARGE", "the patch copies more than it may; send the values instead")
        if isinstance(value, dict):
            return {key: self._duplicate(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._duplicate(item) for item in value]
        return value


def _slot(node: Json, token: str, path: Path, *, end: bool = False) -> Any:
    """Return the key or index a token means in a container; `end` allows the place after the last."""
    if isinstance(node, dict) and token in node:
        return token
    if isinstance(node, list):
        if token == "-" and end:
            return len(node)
        if token.isascii() and token.isdigit() and len(token) < 10 and (token == "0" or token[0] != "0"):
            index = int(token)
            if index < len(node) + end:
                return index
    return refuse("PATCH_FAILED", f"there is nothing at {pointer(path)[:200]!r}; nothing was changed")


def _depth(value: Json) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def diff(old: Json, new: Json) -> list[dict[str, Json]]:
    """Return a JSON patch that turns `old` into `new`; empty if they are the same. O(values).

    Arrays keep their common head and tail; what lies between is replaced item by item. The patch is
    correct, not shortest.
    """
    rows: list[dict[str, Json]] = []
    _diff(old, new, "", rows)
    return rows


def _diff(old: Json, new: Json, path: str, rows: list[dict[str, Json]]) -> None:
    if old is new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        rows.extend({"op": "remove", "path": path + pointer((key,))} for key in old if key not in new)
        for key, value in new.items():
            if key in old:
                _diff(old[key], value, path + pointer((key,)), rows)
            else:
                rows.append({"op": "add", "path": path + pointer((key,)), "value": value})
    elif isinstance(old, list) and isinstance(new, list):
        _diff_arrays(old, new, path, rows)
    elif not same(old, new):
        rows.append({"op": "replace", "path": path, "value": new})


def _diff_arrays(old: list[Json], new: list[Json], path: str, rows: list[dict[str, Json]]) -> None:
    head = 0
    while head < min(len(old), len(new)) and same(old[head], new[head]):
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and same(old[-1 - tail], new[-1 - tail]):
        tail += 1
    shared = min(len(old), len(new)) - tail
    for index in range(head, shared):
        _diff(old[index], new[index], f"{path}/{index}", rows)
    gone = range(len(old) - tail - 1, shared - 1, -1)
    rows.extend({"op": "remove", "path": f"{path}/{index}"} for index in gone)
    come = range(shared, len(new) - tail)
    rows.extend({"op": "add", "path": f"{path}/{index}", "value": new[index]} for index in come)
