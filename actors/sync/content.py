"""A document that takes updates in any order: what has a gap before it waits outside, bounded.

Law of this file: the CRDT itself never holds a gap, so its snapshot is always whole, and a peer
cannot make it collect pieces (28,700 shuffled updates cost 7.2 s instead of 0.29, pycrdt 0.14.13).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from laneway.actors.sync.characters import Characters
from laneway.actors.sync.document import Document
from laneway.actors.sync.lib0 import refuse
from laneway.actors.sync.messages import decode_vector
from laneway.actors.sync.nesting import Nesting
from laneway.actors.sync.patch import Operation
from laneway.actors.sync.update import Update, UpdateLimits, parse_update
from laneway.routing.errors import PeerProtocolError

__all__ = ["Content", "Integrated", "Together"]

_PENDING: Final = 64
_PENDING_BYTES: Final = 131_072
_STORED: Final = UpdateLimits(structs=10_000_000)


@dataclass(slots=True)
class Integrated:
    """What became of one update.

    Attributes:
        held: it has a gap before it and waits.
        fresh: what was new in it; empty if held or known.
        released: what was new in updates that it let out of waiting.
    """

    held: bool = False
    fresh: bytes = b""
    released: list[bytes] = field(default_factory=list)


class Together(NamedTuple):
    """What became of several updates.

    Attributes:
        answers: of each that was looked at: False (it is not held), or why it was refused.
        fresh: what was new in them; empty if all was known.
    """

    answers: list[bool | PeerProtocolError]
    fresh: bytes


class Content:
    """One replica with its waiting room.

    Args:
        document: an empty replica; owned from here on.
    """

    __slots__ = ("_characters", "_known", "_nesting", "_pending", "_pending_bytes", "document", "refused", "spoiled")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.spoiled = False
        """True once the document raised: it may hold half a change; discard it."""
        self.refused = 0
        """Waiting or stored updates that could not be applied in the end."""
        self._known: dict[int, int] | None = None
        self._characters = Characters()
        self._nesting = Nesting()
        self._pending: list[Update] = []
        self._pending_bytes = 0

    @property
    def pending(self) -> int:
        """Updates that wait for what comes before them."""
        return len(self._pending)

    def load(self, updates: Iterable[bytes]) -> None:
        """Apply what a store kept (well formed once, so without bounds on its size).

        One that waited in the log and cannot be applied after all is passed over, here as when its
        gap closes: it must not make the document unreadable.
        """
        for raw in updates:
            try:
                self.integrate(parse_update(raw, _STORED))
            except PeerProtocolError:
                self.refused += 1
        self.spoiled = False

    def integrate(self, update: Update) -> Integrated:
        """Apply an update, or let it wait. O(update + what it releases).

        Raises PeerProtocolError; GAP_TOO_LARGE if too much waits already.
        """
        if update.missing(self._vector()):
            self._hold(update)
            return Integrated(held=True)
        return Integrated(fresh=self._apply(update), released=self._release())

    def integrate_all(self, updates: Sequence[Update]) -> Together:
        """Apply updates in one transaction, up to the first with a gap before it; nothing may be waiting.

        Each has the answer that `integrate` would have given it. O(updates + clients).

        Raises PeerProtocolError if the library refused; which of them it was is seen by trying each alone.
        """
        known, ready, answers = self.vector(), list[Update](), list[bool | PeerProtocolError]()
        for update in updates:
            if update.missing(known):
                break
            try:
                self._admit(update)
            except PeerProtocolError as error:
                answers.append(error)
                continue
            answers.append(False)
            ready.append(update)
            _advance(known, update)
        return Together(answers, self._transact(ready, known) if ready else b"")

    def _release(self) -> list[bytes]:
        """Apply what waited and need not wait any more; returns what was new in each."""
        released = []
        while self._pending and (ready := self._next()) is not None:
            try:
                fresh = self._apply(ready)
            except PeerProtocolError:
                self.refused += 1
                continue
            if fresh:
                released.append(fresh)
        return released

    def patch(self, operations: Sequence[Operation]) -> bytes:
        """Make a patch real and return its update, or empty bytes. See `Document.patch`."""
        self.spoiled = True
        fresh = self.document.patch(operations)
        if fresh:
            self.note(fresh)
        self.spoiled = False
        return fresh

    def note(self, fresh: bytes) -> None:
        """Remember where the items of an own change stand. Raises PeerProtocolError(DEPTH_EXCEEDED)."""
        own = parse_update(fresh, _STORED)
        self._admit(own)
        _advance(self._vector(), own)

    def _admit(self, update: Update) -> None:
        self._characters.admit(update)
        self._nesting.admit(update)

    def vector(self) -> dict[int, int]:
        """Return client -> next clock."""
        return dict(self._vector())

    def _vector(self) -> dict[int, int]:
        """The document's own word, kept as long as every change that is made is known."""
        if self._known is None:
            self._known = decode_vector(self.document.vector())
        return self._known

    def whole(self) -> list[bytes]:
        """Return updates from which `load` makes the same content: the snapshot, then what waits."""
        return [self.document.snapshot(), *(update.raw for update in self._pending)]

    def close(self) -> None:
        """Let the document go; idempotent."""
        self._pending.clear()
        self.document.close()

    def _apply(self, update: Update) -> bytes:
        known = self._vector()
        self._admit(update)
        fresh = self._transact((update,), known)
        if fresh:
            _advance(known, update)
        return fresh

    def _transact(self, updates: Sequence[Update], known: dict[int, int]) -> bytes:
        """Apply admitted updates in one transaction; `known` is the vector from then on, if they change anything."""
        self.spoiled, before = True, self.spoiled
        self._known = None  # unless the change is seen to be made
        fresh = self.document.apply(updates)
        self.spoiled = before
        if fresh:
            self._known = known
        return fresh

    def _hold(self, update: Update) -> None:
        size = self._pending_bytes + len(update.raw)
        if any(update.raw == held.raw for held in self._pending):
            return
        if len(self._pending) >= _PENDING or size > _PENDING_BYTES:
            refuse("GAP_TOO_LARGE", "too many updates wait for missing ones; answer the sync step 1 first")
        self._pending.append(update)
        self._pending_bytes = size

    def _next(self) -> Update | None:
        """Take out one update whose gap is closed."""
        vector = self._vector()
        for index, update in enumerate(self._pending):
            if not update.missing(vector):
                self._pending_bytes -= len(update.raw)
                return self._pending.pop(index)
        return None


def _advance(known: dict[int, int], update: Update) -> None:
    """An update that leaves no gap has changed the document, or is about to."""
    for struct in update.structs:
        after = struct.clock + struct.length
        if after > known.get(struct.client, 0):
            known[struct.client] = after
