"""The replay ring: the newest numbered events of one stream, which every link reads in place.

Law of this file: a number is given once and never changes meaning. `position(seq)` is the sum of
the weights (body + 16 bytes) of seqs 1..seq since the epoch began: a pure function of the log,
which merging, splitting, dropping and resending never change; credit, retention and "bytes
behind" are all differences of positions. Nothing above `committed` is ever readable, so a link
cannot send what a store does not have.

Bounds are counts and bytes. When bytes run out, the oldest droppable bodies become tombstones
first (seq, kind and weight stay, so that a GAP is exact), then the oldest entries leave; whoever
still needs those reads the log.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from laneway.routing.classify import BUILTIN_KINDS
from laneway.routing.envelope import BODY, KIND, Envelope, with_body
from laneway.routing.errors import LocalProtocolError

__all__ = ["SEQ_COST_BYTES", "TOMBSTONE", "Cursor", "Numbered", "ReplayRing", "weight_bytes"]

SEQ_COST_BYTES: Final = 16
"""What a numbered event weighs beside its body, so that empty bodies are not free of credit."""

TOMBSTONE: Final = bytes(bytearray(b"\xff tombstone"))
"""Body of an entry whose real body was dropped; recognised by identity (`is`), so that no user's
body can look like it."""

_position_of: Final = itemgetter(1)
_DROPPABLE: Final = frozenset(kind.name for kind in BUILTIN_KINDS if kind.droppable)

Numbered: TypeAlias = tuple[int, int, Envelope]
"""(seq, position after it, envelope): how rings and logs hand events to links."""


class Cursor(NamedTuple):
    """Where a reader stands: the last seqs it has whole, in one uninterrupted numbering.

    `skip` = bytes it already has of data seq `data + 1` (a text delta that was cut in half).
    """

    epoch: str = ""
    urgent: int = 0
    data: int = 0
    skip: int = 0


def weight_bytes(env: Envelope) -> int:
    """Return what a numbered event adds to the position of its stream."""
    return len(env[11]) + SEQ_COST_BYTES


class ReplayRing:
    """One stream's newest events, contiguous in seq.

    Args:
        max_events: entries kept, at least 1; up to a sixteenth more are held before a block leaves.
        max_bytes: bodies + 16 bytes each held at most; the newest entry is kept whatever it weighs.
        droppable: names of the kinds whose bodies may become tombstones.

    Attributes:
        committed: last seq that links may send; moved by `commit` only.
        head: last seq given, 0 if none; head_position: the position after it. Moved by `append` and `extend` only.

    Raises:
        LocalProtocolError: for bounds below 1.
    """

    __slots__ = (
        "_buried",
        "_droppable",
        "_entries",
        "_floor",
        "_limit",
        "_low",
        "_max_bytes",
        "_max_events",
        "_saved",
        "committed",
        "head",
        "head_position",
    )

    def __init__(
        self, max_events: int = 1000, max_bytes: int = 262_144, droppable: frozenset[str] = _DROPPABLE
    ) -> None:
        if max_events < 1 or max_bytes < 1:
            raise LocalProtocolError(f"a ring of {max_events} events and {max_bytes} bytes holds nothing; use >= 1")
        self._max_events = max_events
        self._limit = max_events + max_events // 16  # leaving in blocks costs O(1) an event
        self._max_bytes = max_bytes
        self._droppable = droppable
        self._entries: list[Numbered] = []
        self._low: deque[int] | None = None  # seqs of droppable bodies still here, oldest first; few rings have any
        self._buried: deque[tuple[int, int]] | None = None  # (seq, body bytes) of tombstones still here
        self._saved = 0  # body bytes of those
        self.head = 0
        self.head_position = 0
        self._floor = 0  # before the first entry
        self.committed = 0

    def append(self, env: Envelope) -> Numbered:
        """Number one event; returns (seq, position after it, event). O(1) amortised."""
        self.head = seq = self.head + 1
        self.head_position = position = self.head_position + len(env[11]) + SEQ_COST_BYTES
        entries = self._entries
        numbered = (seq, position, env)
        entries.append(numbered)
        if env[2] in self._droppable:
            self._may_go(seq)
        if len(entries) > self._limit or position - self._floor - self._saved > self._max_bytes:
            self._shrink()
        return numbered

    def numbered(self, envs: Sequence[Envelope]) -> list[Numbered]:
        """Return the rows that these events would be, in order; nothing is done yet. O(events), 0.1 us each."""
        seq, position = self.head, self.head_position
        return [(seq := seq + 1, position := position + len(env[11]) + SEQ_COST_BYTES, env) for env in envs]

    def extend(self, rows: Sequence[Numbered]) -> None:
        """Take rows as `numbered` has just given them: the same as an `append` of each. O(events), 0.05 us each."""
        entries, droppable = self._entries, self._droppable
        lasting = droppable.isdisjoint([row[2][2] for row in rows])
        done, count = 0, len(rows)
        while done < count:
            full = bisect_right(rows, self._max_bytes + self._floor + self._saved, done, key=_position_of)
            some = rows[done : min(full, done + self._limit - len(entries)) + 1]  # up to the one after which to shrink
            entries += some
            self.head, self.head_position, _ = some[-1]
            for number in () if lasting else [row[0] for row in some if row[2][2] in droppable]:
                self._may_go(number)
            if len(entries) > self._limit or self.bytes > self._max_bytes:
                self._shrink()
            done += len(some)

    def commit(self, seq: int) -> None:
        """Everything up to `seq` is in the log: links may send it. Lower values are ignored.

        Raises:
            LocalProtocolError: above `head`.
        """
        if seq > self.head:
            raise LocalProtocolError(f"commit of seq {seq}, but only {self.head} were numbered")
        if seq > self.committed:
            self.committed = seq

    def restore(self, entries: Iterable[Numbered], *, head: int = 0, head_position: int = 0) -> None:
        """Take over the contiguous tail of a log as committed; for a ring that was never used.

        `head` and `head_position` say where numbering goes on when the tail is empty.

        Raises:
            LocalProtocolError: after an append, or with a hole in the entries.
        """
        if self.head:
            raise LocalProtocolError("restore() after events were numbered; restore a fresh ring")
        self.head, self.head_position, self._floor = head, head_position, head_position
        for seq, position, env in entries:
            if not self._entries:
                self._floor = position - weight_bytes(env)
            elif seq != self.head + 1:
                raise LocalProtocolError(f"the log jumps from seq {self.head} to {seq}")
            self.head, self.head_position = seq, position
            self._entries.append((seq, position, env))
            if env[KIND] in self._droppable:
                self._may_go(seq)
        self.committed = self.head
        self._shrink()

    def release(self, below_seq: int) -> None:
        """Let entries with seq < `below_seq` go (nobody will ask for them again)."""
        self._leave(min(below_seq - self.first, len(self._entries)))

    @property
    def first(self) -> int:
        """Oldest seq still here; `head + 1` when empty."""
        return self.head + 1 - len(self._entries)

    @property
    def bytes(self) -> int:
        """Bodies + 16 bytes each now held."""
        return self.head_position - self._floor - self._saved

    def __len__(self) -> int:
        return len(self._entries)

    def position_before(self, seq: int) -> int | None:
        """Return where `seq` starts (`head + 1` included), or None outside of the ring."""
        if seq > self.head:
            return self.head_position if seq == self.head + 1 else None
        index = seq - self.first
        if index > 0:
            return self._entries[index - 1][1]
        return self._floor if index == 0 else None

    def get(self, seq: int) -> Envelope | None:
        """Return the event, or None if it is not here or only its tombstone is."""
        index = seq - self.first
        if index < 0 or seq > self.head:
            return None
        env = self._entries[index][2]
        return None if env[BODY] is TOMBSTONE else env

    def read(self, seq: int, limit: int) -> list[Numbered]:
        """Return up to `limit` committed entries from `seq` on; [] if `seq` is not here (yet)."""
        entries = self._entries
        start = seq - self.head - 1 + len(entries)
        stop = len(entries) - self.head + self.committed
        if start < 0 or stop <= start:
            return []
        return entries[start : start + limit if start + limit < stop else stop]

    def _may_go(self, seq: int) -> None:
        if self._low is None:
            self._low = deque()
        self._low.append(seq)

    def _shrink(self) -> None:
        entries = self._entries
        if len(entries) > self._limit:
            self._leave(len(entries) - self._max_events)
        if self.bytes <= self._max_bytes:
            return
        while self.bytes > self._max_bytes and self._low and self._low[0] != self.head:
            self._bury(self._low.popleft())
        if self.bytes > self._max_bytes:
            self._leave(self._too_many())

    def _too_many(self) -> int:
        """Count the oldest entries that must leave for a sixteenth of the bytes to be free."""
        goal = self._max_bytes - self._max_bytes // 16
        if not self._buried:
            return min(bisect_left(self._entries, self.head_position - goal, key=_position_of), len(self) - 2) + 1
        buried = dict(self._buried)
        held, before = self.bytes, self._floor
        for count, (seq, position, _) in enumerate(self._entries[:-1], 1):
            held -= position - before - buried.get(seq, 0)
            before = position
            if held <= goal:
                return count
        return len(self._entries) - 1

    def _bury(self, seq: int) -> None:
        """Replace one droppable body by a tombstone."""
        index = seq - self.first
        _, position, env = self._entries[index]
        self._entries[index] = (seq, position, with_body(env, TOMBSTONE))
        if self._buried is None:
            self._buried = deque()
        self._buried.append((seq, len(env[BODY])))
        self._saved += len(env[BODY])

    def _leave(self, count: int) -> None:
        """Let the `count` oldest entries go."""
        if count < 1:
            return
        last, self._floor, _ = self._entries[count - 1]
        del self._entries[:count]
        while self._low and self._low[0] <= last:
            self._low.popleft()
        while self._buried and self._buried[0][0] <= last:
            self._saved -= self._buried.popleft()[1]
