"""The port to a CRDT document: what the actors need of one, in bytes and plain JSON.

Law of this file: an implementation stops its library's traps here: it raises nothing but
PeerProtocolError for what a peer sent (native panics included), indexes text by code point, gives
integral numbers as integers, and keeps no reference to its observers once closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from laneway.actors.sync.patch import Operation
from laneway.actors.sync.update import Update
from laneway.actors.sync.values import Json

__all__ = ["Document", "DocumentEngine"]


class Document(Protocol):
    """One replica of a document. Not thread-safe; every method is synchronous and O(touched) or better.

    After a method raised, the replica may hold half of a change: discard it and load it anew.
    """

    def apply(self, updates: Sequence[Update]) -> bytes:
        """Apply peers' updates, in order; return what was new in them as one, or empty bytes.

        Raises PeerProtocolError.
        """
        ...

    def patch(self, operations: Sequence[Operation]) -> bytes:
        """Make a patch that fits `json()` real in one transaction; return the update, or empty bytes.

        The caller has applied the patch to plain JSON before. Objects are merged into existing ones.
        """
        ...

    def vector(self) -> bytes:
        """Return the state vector."""
        ...

    def diff(self, vector: bytes) -> bytes:
        """Return all that a replica with this state vector may lack. Raises PeerProtocolError."""
        ...

    def json(self) -> Json:
        """Return the root map `state` as JSON. O(document)."""
        ...

    def snapshot(self) -> bytes:
        """Return one update that holds the whole document. O(document)."""
        ...

    def close(self) -> None:
        """Detach observers and let go; idempotent."""
        ...


class DocumentEngine(Protocol):
    """A CRDT library."""

    def open(self, name: str, client_id: int) -> Document:
        """Return an empty document that writes as `client_id`."""
        ...

    def merge(self, updates: Sequence[bytes]) -> bytes:
        """Return one update with the effect of all (at most 100: cost grows with the square)."""
        ...
