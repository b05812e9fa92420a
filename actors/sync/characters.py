"""Where characters of two UTF-16 units lie in a document, so that no edit cuts one in half.

Law of this file: an update that would divide a surrogate pair (insert between its halves, or delete
one of them) is refused before it is applied. Everybody else keeps a document that merges.

Why so: such a cut never converges, with pycrdt nor with yjs alone (12 of 12 seeds; y-crdt#399,
yjs#303), and a snapshot of the cut document reads back with other clocks, so that later updates
of its author would be taken for known ones and lost.
"""

from __future__ import annotations

from laneway.actors.sync.lib0 import refuse
from laneway.actors.sync.update import Update

__all__ = ["Characters"]


class Characters:
    """The surrogate pairs of one document; one number each."""

    __slots__ = ("_halves",)

    def __init__(self) -> None:
        self._halves: dict[int, set[int]] = {}

    def admit(self, update: Update) -> None:
        """Check and remember an update. O(structs + cuts). Raises PeerProtocolError(SPLIT_CHARACTER)."""
        coming: dict[int, set[int]] = {}
        for struct in update.structs:
            if struct.halves:
                coming.setdefault(struct.client, set()).update(struct.halves)
        if coming or self._halves:
            for client, clock in update.cuts:
                if clock in self._halves.get(client, ()) or clock in coming.get(client, ()):
                    refuse("SPLIT_CHARACTER", "an edit divides a character of two UTF-16 units; edit whole characters")
        for client, clocks in coming.items():
            self._halves.setdefault(client, set()).update(clocks)
