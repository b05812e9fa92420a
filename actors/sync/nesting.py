"""How deep each item of a document stands, so that no chain of updates builds a bottomless tree.

Law of this file: an update that would put a value deeper than the limit is refused before it is
applied. Depth is kept per run of clocks in which it does not change: typing a text costs one entry.

Why so: each update of a chain may be small and well formed, yet 20,000 nested maps overflow the
native stack when they are read, 100,000 when they are deleted (SIGSEGV, pycrdt 0.14.13), and what
cannot be projected into a frame of 32 levels is of no use to a client either.
"""

from __future__ import annotations

from bisect import bisect_right

from laneway.actors.sync.lib0 import refuse
from laneway.actors.sync.update import BESIDE, INSIDE, NOWHERE, Struct, Update

__all__ = ["MAX_NESTING", "Nesting"]

MAX_NESTING = 28
"""Levels of containers under a root: with an event's own two, inside the 32 of a frame."""


class Nesting:
    """Depths of one document's items.

    Args:
        limit: deepest level a value may stand on (1 = directly under a root).
    """

    __slots__ = ("_ends", "_limit", "_runs")

    def __init__(self, limit: int = MAX_NESTING) -> None:
        self._limit = limit
        self._runs: dict[int, tuple[list[int], list[int]]] = {}
        self._ends: dict[int, int] = {}

    def admit(self, update: Update) -> None:
        """Check and remember an update that leaves no gap. O(structs log runs).

        Raises PeerProtocolError(DEPTH_EXCEEDED), and BAD_TYPE if references form a circle.
        """
        if len(update.structs) == 1:  # a keystroke: it stands on nothing of its own update
            self._admit_one(update.structs[0])
            return
        depths = _Depths(self, update)
        for index, struct in enumerate(update.structs):
            if depths.at(index) + struct.depth > self._limit:
                refuse("DEPTH_EXCEEDED", f"a value would stand deeper than {self._limit} levels in the document")
        for index, struct in enumerate(update.structs):
            self._record(struct, depths.at(index))

    def _admit_one(self, struct: Struct) -> None:
        depth = 0
        if struct.place in (INSIDE, BESIDE):
            known = self.known(*struct.ref)
            if known is None and struct.ref[0] == struct.client and struct.ref[1] >= struct.clock:
                refuse("BAD_TYPE", "items of the update stand on each other in a circle")
            depth = 1 if known is None else max(1, known + (struct.place == INSIDE))
        elif struct.place != NOWHERE:
            depth = 1
        if depth + struct.depth > self._limit:
            refuse("DEPTH_EXCEEDED", f"a value would stand deeper than {self._limit} levels in the document")
        self._record(struct, depth)

    def known(self, client: int, clock: int) -> int | None:
        """Return the depth at which an item stands, or None if it is not known."""
        if clock >= self._ends.get(client, 0):
            return None
        starts, depths = self._runs[client]
        return depths[bisect_right(starts, clock) - 1]

    def _record(self, struct: Struct, depth: int) -> None:
        end = self._ends.get(struct.client, 0)
        after = struct.clock + struct.length
        if after <= end:
            return
        self._ends[struct.client] = after
        starts, depths = self._runs.setdefault(struct.client, ([], []))
        if not depths or depths[-1] != depth:
            starts.append(end)
            depths.append(depth)


class _Depths:
    """The depths inside one update; references may point forward, also between clients."""

    __slots__ = ("_nesting", "_starts", "_structs", "_values")

    def __init__(self, nesting: Nesting, update: Update) -> None:
        self._nesting = nesting
        self._structs = update.structs
        self._values: list[int | None] = [None] * len(update.structs)
        self._starts: dict[int, tuple[list[int], list[int]]] = {}
        for index, struct in enumerate(update.structs):
            starts, indexes = self._starts.setdefault(struct.client, ([], []))
            starts.append(struct.clock)
            indexes.append(index)

    def at(self, index: int) -> int:
        """Return the depth of the struct at `index`, resolving what it stands on first."""
        value = self._values[index]
        return value if value is not None else self._resolve(index)

    def _resolve(self, index: int) -> int:
        stack = [index]
        waiting: set[int] = set()
        while True:
            top = stack[-1]
            struct = self._structs[top]
            below = self._below(struct)
            if isinstance(below, int):
                self._values[top] = below
                stack.pop()
                waiting.discard(top)
                if not stack:
                    return below
                continue
            (other,) = below
            if other in waiting or other == top:
                refuse("BAD_TYPE", "items of the update stand on each other in a circle")
            waiting.add(top)
            stack.append(other)

    def _below(self, struct: Struct) -> int | tuple[int]:
        """Return the depth, or the index of the struct that must be resolved first."""
        if struct.place == NOWHERE:
            return 0
        if struct.place not in (INSIDE, BESIDE):
            return 1
        step = 1 if struct.place == INSIDE else 0
        known = self._nesting.known(*struct.ref)
        if known is None:
            client, clock = struct.ref
            starts, indexes = self._starts.get(client, ([], []))
            at = bisect_right(starts, clock) - 1
            if at < 0:
                return 1
            index = indexes[at]
            known = self._values[index]
            if known is None:
                return (index,)
        return max(1, known + step)
