"""One log in memory: its streams, each of them bytes or events as they are, and what they weigh.

Law of this file: a stream has no hole, and every byte that comes is given back when it leaves. Events stay the
very tuples that their session holds, until their log rests or memory becomes scarce; then they are packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from laneway.routing.envelope import BODY, Envelope

__all__ = ["ENTRY_OVERHEAD_BYTES", "EVENT_OVERHEAD_BYTES", "LOG_OVERHEAD_BYTES", "MemoryLog", "Rows"]

ENTRY_OVERHEAD_BYTES: Final = 150
"""A value's tuple, its numbers, the bytes header and its places (measured, CPython 3.11); an entry takes less."""
EVENT_OVERHEAD_BYTES: Final = 480
"""An event that is kept as it is: both tuples, body header, producer, counter, time, and its places (measured)."""
LOG_OVERHEAD_BYTES: Final = 1_000
_WARM_EVENTS: Final = 1_024
"""Of each stream the newest stay as they are; older ones are packed once half of the memory is used."""


class Rows:
    """One stream: (seq, position after it, bytes or event), from the stream's floor on, without a hole.

    Plain tuples of plain values, which the garbage collector leaves alone once it has seen them. Events are
    the very tuples that their session's ring holds.
    """

    __slots__ = ("pack", "packed", "rows")

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, Any]] = []
        self.packed = 0
        """So many of the first rows hold no event any more."""
        self.pack: Callable[[Envelope], bytes] = _no_events

    def page(self, start: int, max_bytes: int) -> Iterator[tuple[int, int, bytes]]:
        """Give rows from index `start` on, at least one if there is one, about `max_bytes` at most."""
        total = 0
        for index in range(max(0, start), len(self.rows)):
            seq, position, held = self.rows[index]
            blob = held if type(held) is bytes else self.pack(held)
            total += len(blob)
            if total > max_bytes and index > start:
                return
            yield seq, position, blob

    def shrink(self, warm: int = _WARM_EVENTS) -> int:
        """Pack all events but the newest `warm` rows; returns how many bytes that saves. O(1) an event."""
        saved = 0
        for index in range(self.packed, max(self.packed, len(self.rows) - warm)):
            seq, position, held = row = self.rows[index]
            if type(held) is not bytes:
                packed = self.rows[index] = (seq, position, self.pack(held))
                saved += _weight(row) - _weight(packed)
            self.packed = index + 1
        return saved

    def rest(self) -> int:
        """Pack all, and let go of who packs; returns how many bytes that saves."""
        saved = self.shrink(0)
        self.pack = _no_events
        return saved

    def cut(self, count: int) -> int:
        """Forget the first rows; returns their bytes."""
        size = sum(map(_weight, self.rows[:count]))
        del self.rows[:count]
        self.packed = max(0, self.packed - count)
        return size


class MemoryLog:
    """A log: its streams, and who may write it.

    Attributes:
        heads, floors: stream -> (last seq, position after it), first seq that is held.
    """

    __slots__ = ("epoch", "floors", "generation", "heads", "streams")

    def __init__(self, generation: int, epoch: str) -> None:
        self.generation = generation
        self.epoch = epoch
        self.streams: dict[int, Rows] = {}
        self.heads: dict[int, tuple[int, int]] = {}
        self.floors: dict[int, int] = {}

    def rows(self, stream: int, seq: int) -> Rows:
        """Return the rows of a stream, which begins with `seq` if it is new."""
        held = self.streams.get(stream)
        if held is None:
            held = self.streams[stream] = Rows()
            self.floors.setdefault(stream, seq)
        return held

    def rest(self) -> int:
        """Nobody writes it for now: pack what is not; returns how many bytes that saves. O(its events)."""
        return sum(rows.rest() for rows in self.streams.values())

    @property
    def bytes(self) -> int:
        """What it weighs, without its key. O(its rows)."""
        return LOG_OVERHEAD_BYTES + sum(sum(map(_weight, rows.rows)) for rows in self.streams.values())


def _no_events(env: Envelope) -> bytes:
    raise AssertionError("events come with what packs them")


def _weight(row: tuple[int, int, Any]) -> int:
    held = row[2]
    return len(held) + ENTRY_OVERHEAD_BYTES if type(held) is bytes else len(held[BODY]) + EVENT_OVERHEAD_BYTES
