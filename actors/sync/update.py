"""A Yjs update (format v1), read before any CRDT library sees it: what it brings and what it needs.

Law of this file: an `Update` exists only if its bytes are well formed and within bounds, and the
adapters take nothing else. Parsing never builds the content: it steps over it.

Why so, measured with pycrdt 0.14.13: 400 KB of nested arrays in one `Any` value overflow the native
stack (SIGSEGV: the process dies, no exception), clocks wrap silently at 2^32, and a gap can only be
seen after the fact, when it is already held inside the document. Knowing ranges and references
beforehand, a gap is held outside, bounded, and answered by a sync step 1.

Source of the format: yjs 13.6, src/utils/encoding.js and src/structs/*.js.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from laneway.actors.sync.lib0 import Reader, refuse

__all__ = ["BESIDE", "INSIDE", "MAX_CLOCK", "NOWHERE", "ROOT", "Struct", "Update", "UpdateLimits", "parse_update"]

NOWHERE: Final = 0
"""Garbage: the struct has no place any more."""
ROOT: Final = 1
"""Directly under a root type."""
INSIDE: Final = 2
"""Under the type that item `ref` holds."""
BESIDE: Final = 3
"""Under the same parent as item `ref` (Yjs leaves the parent out then)."""

MAX_CLOCK: Final = 2**31
"""Where clocks end here: the library's own wrap at 2^32."""
_GC, _SKIP = 0, 10
_FIXED_ANY: Final = {127: 0, 126: 0, 121: 0, 120: 0, 124: 4, 123: 8, 122: 8}
_NAMED_TYPES: Final = (3, 5)
_LAST_TYPE: Final = 6


@dataclass(frozen=True, slots=True)
class UpdateLimits:
    """Bounds of one update.

    Attributes:
        structs: items in it; reading costs about 2 us each.
        depth: nesting inside one plain (`Any`) value.
    """

    structs: int = 100_000
    depth: int = 28


DEFAULT_LIMITS: Final = UpdateLimits()


class Struct(NamedTuple):
    """One run of clocks of one client, and where it stands."""

    client: int
    clock: int
    length: int
    place: int
    ref: tuple[int, int]
    depth: int
    """Levels of containers inside its plain value."""
    halves: tuple[int, ...] = ()
    """Clocks at which the second half of a surrogate pair lies (text counts in UTF-16 units)."""


class Update(NamedTuple):
    """A well-formed update.

    Attributes:
        raw: its bytes.
        structs: its items, without Skip structs.
        needs: client -> clock that must be known (exclusive), by reference or deletion.
        cuts: (client, clock) before which a text is cut in two, by reference or deletion.
    """

    raw: bytes
    structs: tuple[Struct, ...]
    needs: Mapping[int, int]
    cuts: tuple[tuple[int, int], ...] = ()

    @property
    def empty(self) -> bool:
        """True if it can change nothing."""
        return not self.structs and not self.needs

    def missing(self, vector: Mapping[int, int]) -> bool:
        """Whether a document that knows `vector` (client -> next clock) lacks something before it. O(structs)."""
        if len(self.structs) == 1:  # a keystroke
            ((client, clock, length, *_),) = self.structs
            have = vector.get(client, 0)
            if clock > have:
                return True
            after = max(have, clock + length)
            return any(
                needed > (after if other == client else vector.get(other, 0)) for other, needed in self.needs.items()
            )
        ahead: dict[int, int] = {}
        for struct in self.structs:
            client = struct.client
            have = ahead[client] if client in ahead else vector.get(client, 0)
            if struct.clock > have:
                return True
            ahead[client] = max(have, struct.clock + struct.length)
        return any(clock > max(ahead.get(client, 0), vector.get(client, 0)) for client, clock in self.needs.items())


def parse_update(data: bytes, limits: UpdateLimits = DEFAULT_LIMITS) -> Update:
    """Read an update. O(structs). Raises PeerProtocolError."""
    return _Walk(data, limits).update()


class _Walk:
    """One pass over one update."""

    __slots__ = ("_cuts", "_limits", "_needs", "_reader", "_structs")

    def __init__(self, data: bytes, limits: UpdateLimits) -> None:
        self._reader = Reader(data)
        self._limits = limits
        self._structs: list[Struct] = []
        self._needs: dict[int, int] = {}
        self._cuts: list[tuple[int, int]] = []

    def update(self) -> Update:
        """Read the whole of it."""
        reader = self._reader
        for _ in range(reader.count(3)):
            self._block()
        for _ in range(reader.count(2)):
            client = reader.varuint()
            for _ in range(reader.count(2)):
                start = reader.varuint()
                stop = start + reader.varuint()
                self._need(client, stop)
                self._cuts += ((client, start), (client, stop))
        reader.end()
        return Update(reader.data, tuple(self._structs), self._needs, tuple(self._cuts))

    def _block(self) -> None:
        reader = self._reader
        count = reader.varuint()
        if count * 2 > reader.left:
            refuse("TRUNCATED", f"{count} structs announced, {reader.left} bytes left")
        client, clock = reader.varuint(), reader.varuint()
        if len(self._structs) + count > self._limits.structs:
            refuse("TOO_MANY_ITEMS", f"over {self._limits.structs} structs in one update; send it in parts")
        for _ in range(count):
            length = self._struct(client, clock)
            clock += length
            if clock > MAX_CLOCK or length < 1:
                refuse("NUMBER_RANGE", "a struct is empty or its clock is over 2^31")

    def _struct(self, client: int, clock: int) -> int:
        """Read one struct and return its length in clocks."""
        reader = self._reader
        info = reader.byte()
        content = info & 31
        if content in (_GC, _SKIP):
            length = reader.varuint()
            if content == _GC:
                self._structs.append(Struct(client, clock, length, NOWHERE, (0, 0), 0))
            return length
        place, ref = self._place(info)
        if content == 4:
            text = reader.text()
            length, halves = _units(text, clock)
            self._structs.append(Struct(client, clock, length, place, ref, 0, halves))
            return length
        length, depth = self._content(content)
        self._structs.append(Struct(client, clock, length, place, ref, depth))
        return length

    def _place(self, info: int) -> tuple[int, tuple[int, int]]:
        """Read origin, right origin and parent; the first two imply the third."""
        reader = self._reader
        left = self._id() if info & 128 else None
        if left is not None:
            self._cuts.append((left[0], left[1] + 1))
        right = self._id() if info & 64 else None
        if right is not None:
            self._cuts.append(right)
        if left is not None or right is not None:
            return BESIDE, left or right or (0, 0)
        place, ref = ROOT, (0, 0)
        if reader.varuint() == 1:
            reader.text()
        else:
            place, ref = INSIDE, self._id()
        if info & 32:
            reader.text()
        return place, ref

    def _id(self) -> tuple[int, int]:
        client, clock = self._reader.varuint(), self._reader.varuint()
        self._need(client, clock + 1)
        return client, clock

    def _need(self, client: int, clock: int) -> None:
        if clock > MAX_CLOCK:
            refuse("NUMBER_RANGE", "a reference or deletion lies beyond clock 2^31")
        if clock > self._needs.get(client, 0):
            self._needs[client] = clock

    def _content(self, content: int) -> tuple[int, int]:
        """Step over an item's content and return (length in clocks, depth of containers in it)."""
        reader = self._reader
        if content == 8:
            count = reader.count()
            return count, max((self._any() for _ in range(count)), default=0)
        if content == 7:
            kind = reader.varuint()
            if kind > _LAST_TYPE:
                refuse("BAD_TYPE", f"type {kind} is not one of Yjs 13's shared types")
            if kind in _NAMED_TYPES:
                reader.text()
            return 1, 0
        if content == 1:
            return reader.varuint(), 0
        if content == 2:
            count = reader.count()
            return count, max((self._json() for _ in range(count)), default=0)
        return 1, self._single(content)

    def _single(self, content: int) -> int:
        """Step over content of length 1 and return its depth."""
        reader = self._reader
        if content == 3:
            reader.skip(reader.varuint())
            return 0
        if content == 5:
            return self._json()
        if content == 6:
            reader.text()
            return self._json()
        if content == 9:
            reader.text()
            return self._any()
        return refuse("BAD_TYPE", f"content {content} is not one of Yjs 13's")

    def _json(self) -> int:
        return self._deep(_json_depth(self._reader.text()))

    def _deep(self, depth: int) -> int:
        if depth > self._limits.depth:
            refuse("DEPTH_EXCEEDED", f"a value is nested deeper than {self._limits.depth}")
        return depth

    def _any(self) -> int:
        """Step over one Any value without recursion and return its depth."""
        reader = self._reader
        open_: list[tuple[int, bool]] = []
        left, named, deepest = 1, False, 0
        while True:
            if left == 0:
                if not open_:
                    return deepest
                left, named = open_.pop()
                continue
            left -= 1
            if named:
                reader.text()
            tag = reader.byte()
            fixed = _FIXED_ANY.get(tag)
            if fixed is not None:
                reader.skip(fixed)
            elif tag == 119:
                reader.text()
            elif tag == 125:
                reader.skip_varint()
            elif tag == 116:
                reader.skip(reader.varuint())
            elif tag in (117, 118):
                open_.append((left, named))
                deepest = max(deepest, self._deep(len(open_)))
                named = tag == 118
                left = reader.count(2 if named else 1)
            else:
                refuse("BAD_TYPE", f"tag {tag} is not an Any value")


def _units(text: str, clock: int) -> tuple[int, tuple[int, ...]]:
    """Return the length in UTF-16 units, and at which clocks second halves of pairs lie."""
    if text.isascii() or max(text) <= "\uffff":
        return len(text), ()
    halves = []
    for char in text:
        clock += 1
        if char > "\uffff":
            halves.append(clock)
            clock += 1
    return len(text) + len(halves), tuple(halves)


def _json_depth(text: str) -> int:
    """Return how deep the brackets of a JSON text nest; not a validator."""
    if text.count("[") + text.count("{") == 0:
        return 0
    depth = deepest = 0
    quoted = escaped = False
    for char in text:
        if quoted:
            quoted = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest
