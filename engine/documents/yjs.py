"""A shared document on pycrdt (the Yjs CRDT): the one place that knows this library's traps.

Law of this file: no native panic passes (pyo3's PanicException is a BaseException), text indexes are
code points, values are checked before a transaction because nothing is rolled back, an object given
for an object is merged into the existing map, and the observer is gone after `close`.

Why so, measured with pycrdt 0.14.13: indexes are UTF-8 byte offsets and land elsewhere silently;
5 reads back as 5.0; an exception inside a transaction keeps the writes before it; replacing a nested
map 20,000 times leaves 296 KB of tombstones, merging into it none; a document dropped with its
observer attached leaks 4.9 KiB.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pycrdt import Array, Doc, Map, Text, TransactionEvent, XmlElement, XmlFragment, XmlText, merge_updates
from pycrdt._snapshot import Snapshot

from laneway.actors.sync.lib0 import Reader, refuse
from laneway.actors.sync.messages import decode_vector
from laneway.actors.sync.patch import Operation
from laneway.actors.sync.update import Update
from laneway.actors.sync.values import Json, plain, same
from laneway.routing.errors import LanewayError, PeerProtocolError

__all__ = ["ROOT", "YjsDocument", "YjsEngine", "byte_index", "stop_panics"]

ROOT: Final = "state"
"""The root map that is projected as JSON."""


@contextmanager
def stop_panics(doing: str) -> Iterator[None]:
    """Turn whatever the library throws, native panics included, into PeerProtocolError(BAD_UPDATE)."""
    try:
        yield
    except (LanewayError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, MemoryError):
        raise
    except BaseException as error:
        message = f"{doing} failed: {type(error).__name__}: {str(error)[:200]}"
        raise PeerProtocolError(message, reason="BAD_UPDATE") from None


def byte_index(text: str, index: int) -> int:
    """Return the UTF-8 offset of a code-point index. O(index)."""
    return index if text.isascii() else len(text[:index].encode())


class YjsEngine:
    """`actors.sync.document.DocumentEngine` on pycrdt."""

    def open(self, name: str, client_id: int) -> YjsDocument:
        """See `DocumentEngine.open`."""
        return YjsDocument(name, client_id)

    def merge(self, updates: Sequence[bytes]) -> bytes:
        """See `DocumentEngine.merge`."""
        if len(updates) == 1:
            return updates[0]
        with stop_panics("merging updates"):
            return merge_updates(*updates)


class YjsDocument:
    """`actors.sync.document.Document` on one pycrdt Doc. Used from one thread.

    Args:
        name: document id, for messages.
        client_id: the id under which `patch` writes: one per home epoch, because every new one
            stays in the state vector for good (100 ids: 897 bytes).
    """

    def __init__(self, name: str, client_id: int) -> None:
        self.name = name
        self.doc: Doc[Any] = Doc(client_id=client_id)
        self._root: Map[Any] = self.doc.get(ROOT, type=Map)
        self._changes: list[bytes] = []
        self._observer = self.doc.observe(self._changed)
        self._open = True

    def _changed(self, event: TransactionEvent) -> None:
        self._changes.append(event.update)

    def taken(self) -> list[bytes]:
        """Return the updates made since the last call."""
        changes, self._changes = self._changes, []
        return [change for change in changes if change != b"\0\0"]

    def _one(self) -> bytes:
        changes = self.taken()
        if len(changes) > 1:
            raise AssertionError("one transaction gave several updates")
        return changes[0] if changes else b""

    def apply(self, updates: Sequence[Update]) -> bytes:
        """See `Document.apply`. One of 64 costs 1.5 us, one alone 18: what costs is to tell what was new."""
        with stop_panics(f"an update of document {self.name!r}"):
            with self.doc.transaction():
                for update in updates:
                    self.doc.apply_update(update.raw)
            return self._one()

    def patch(self, operations: Sequence[Operation]) -> bytes:
        """See `Document.patch`."""
        with stop_panics(f"a patch of document {self.name!r}"):
            with self.doc.transaction():
                for operation in operations:
                    self._run(operation)
            return self._one()

    def vector(self) -> bytes:
        """See `Document.vector`."""
        return self.doc.get_state()

    def diff(self, vector: bytes) -> bytes:
        """See `Document.diff`."""
        decode_vector(vector)
        with stop_panics(f"the state vector for document {self.name!r}"):
            return self.doc.get_update(vector)

    def json(self) -> Json:
        """See `Document.json`."""
        return _plain(self._root)

    def snapshot(self) -> bytes:
        """See `Document.snapshot`."""
        return self.doc.get_update()

    def fingerprint(self) -> bytes:
        """Return the Yjs snapshot (state vector and delete set), sorted: equal only if replicas are.

        A state vector alone proves nothing about deletions.
        """
        reader = Reader(Snapshot.from_doc(self.doc).encode())
        deleted = []
        for _ in range(reader.count()):
            client = reader.varuint()
            for _ in range(reader.count()):
                start = reader.varuint()
                deleted.append((client, start, start + reader.varuint()))
        known = [(reader.varuint(), reader.varuint()) for _ in range(reader.count())]
        return repr((_joined(sorted(deleted)), sorted(row for row in known if row[1]))).encode()

    def close(self) -> None:
        """See `Document.close`."""
        if self._open:
            self._open = False
            self.doc.unobserve(self._observer)

    # ---- patches ----------------------------------------------------------------------------

    def _run(self, operation: Operation) -> None:
        op, path, value, source = operation
        if op == "remove":
            self._remove(path)
        elif op == "replace":
            self._put(path, value, insert=False)
        elif op in ("move", "copy"):
            value = self._value(source)
            if op == "move":
                self._remove(source)
            self._put(path, value, insert=True)
        elif op == "add":
            self._put(path, value, insert=True)

    def _value(self, path: Sequence[str]) -> Json:
        if not path:
            return _plain(self._root)
        owner = self._owner(path)
        return _plain(owner[_slot(owner, path[-1])])

    def _remove(self, path: Sequence[str]) -> None:
        owner = self._owner(path)
        del owner[_slot(owner, path[-1])]

    def _put(self, path: Sequence[str], value: Json, *, insert: bool) -> None:
        if not path:
            if not isinstance(value, dict):
                refuse("PATCH_FAILED", "the root of a document is an object; nothing was changed")
            _merge_map(self._root, value)
            return
        owner = self._owner(path)
        slot = _slot(owner, path[-1])
        if insert and isinstance(owner, Array):
            owner.insert(slot, _shared(value))
        elif isinstance(owner, Map) and slot not in owner:
            owner[slot] = _shared(value)
        else:
            _merge(owner, slot, value)

    def _owner(self, path: Sequence[str]) -> Any:
        """Return the shared type that holds the last token; plain values on the way become shared."""
        node: Any = self._root
        for token in path[:-1]:
            slot = _slot(node, token)
            child = node[slot]
            if not isinstance(child, Map | Array):
                node[slot] = _shared(_plain(child))
                child = node[slot]
            node = child
        return node


def _joined(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return sorted ranges with neighbours made one: how they are cut is history, not state."""
    out: list[tuple[int, int, int]] = []
    for client, start, stop in ranges:
        if out and out[-1][0] == client and out[-1][2] == start:
            out[-1] = (client, out[-1][1], stop)
        else:
            out.append((client, start, stop))
    return out


def _slot(owner: Any, token: str) -> Any:
    if isinstance(owner, Map):
        return token
    return len(owner) if token == "-" else int(token)


def _shared(value: Json) -> Any:
    if isinstance(value, dict):
        return Map({key: _shared(item) for key, item in value.items()})
    if isinstance(value, list):
        return Array([_shared(item) for item in value])
    return value


def _plain(value: Any) -> Json:
    """Return any shared or plain value as JSON, the same inside a container and alone. O(values).

    A container is printed by the library and parsed again: ten times faster than walking it.
    """
    if isinstance(value, Map | Array):
        return plain(json.loads(str(value)))
    if isinstance(value, Doc):
        return {"guid": value.guid}
    if isinstance(value, Text | XmlFragment | XmlElement | XmlText):
        return str(value)
    return plain(value)


def _merge(owner: Any, slot: Any, value: Json) -> None:
    """Make owner[slot] equal to `value` with the fewest changes to what stands there."""
    current = owner[slot]
    if isinstance(current, Map) and isinstance(value, dict):
        _merge_map(current, value)
    elif isinstance(current, Array) and isinstance(value, list):
        _merge_array(current, value)
    elif isinstance(current, Text) and isinstance(value, str):
        _merge_text(current, value)
    elif not same(_plain(current), value):
        owner[slot] = _shared(value)


def _merge_map(target: Map[Any], value: dict[str, Json]) -> None:
    for key in set(target.keys()) - value.keys():
        del target[key]
    for key, item in value.items():
        if key in target:
            _merge(target, key, item)
        else:
            target[key] = _shared(item)


def _merge_array(target: Array[Any], value: list[Json]) -> None:
    old = _plain(target)
    short = min(len(old), len(value))
    head = next((index for index in range(short) if not same(old[index], value[index])), short)
    room = short - head
    tail = next((index for index in range(room) if not same(old[-1 - index], value[-1 - index])), room)
    shared = short - tail
    for index in range(head, shared):
        _merge(target, index, value[index])
    if len(old) - tail > shared:
        del target[shared : len(old) - tail]
    for index in range(shared, len(value) - tail):
        target.insert(index, _shared(value[index]))


def _merge_text(target: Text, value: str) -> None:
    old = str(target)
    short = min(len(old), len(value))
    head = next((index for index in range(short) if old[index] != value[index]), short)
    room = short - head
    tail = next((index for index in range(room) if old[-1 - index] != value[-1 - index]), room)
    start, stop = byte_index(old, head), byte_index(old, len(old) - tail)
    if stop > start:
        del target[start:stop]
    added = value[head : len(value) - tail]
    if added:
        target.insert(start, added)
