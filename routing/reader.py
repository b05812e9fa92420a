"""A reader: one link's place in one stream, over the ring and, behind it, pages of the log.

Law of this file: a reader is a cursor, not a queue. It holds no events but the one page of the log
it was last given, so a slow link costs nothing and slows nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from laneway.routing.envelope import SEAL, Envelope
from laneway.routing.errors import LocalProtocolError
from laneway.routing.items import Batch
from laneway.routing.replay import TOMBSTONE, Numbered, ReplayRing, weight_bytes

__all__ = ["RESERVE_BYTES", "RESERVE_EVENTS", "StreamReader"]

RESERVE_EVENTS: Final = 64
RESERVE_BYTES: Final = 65_536
"""Urgent events that may be sent without an ack."""
_LOOK_EVENTS: Final = 64
"""At a time; as many waiting events are a full frame, which does not wait."""


class StreamReader:
    """Where one link stands in one stream.

    Args:
        ring: the stream's newest events, shared by all links.
        have: last seq the client has whole.
        skip: bytes it has of the seq after that.

    Attributes:
        next: seq to send next. skip: bytes of it that were sent.
        position: where `next` starts, or None while that is behind the ring and no page was read.
        acked: last seq the client confirmed. acked_position: the position after it, as far as known.
        start: position at which this link began, or None if it was not known then.
        baseline: last committed seq when the link began: up to it replay, beyond it live;
            baseline_position: the position after it.
    """

    __slots__ = (
        "_alone",
        "_looked",
        "_opened",
        "_page",
        "_ring",
        "acked",
        "acked_position",
        "baseline",
        "baseline_position",
        "next",
        "position",
        "skip",
        "start",
    )

    def __init__(self, ring: ReplayRing, have: int, skip: int = 0) -> None:
        self._ring = ring
        self._page: Sequence[Numbered] = ()
        self._looked = self._alone = 0  # last seq looked at; last one found that merges with nothing
        self._opened = 0  # last one found that is the first text of a message
        self.next = have + 1
        self.skip = skip
        self.position = self.start = ring.position_before(have + 1)
        self.acked = have
        self.acked_position = self.start or 0
        self.baseline = ring.committed
        self.baseline_position = ring.position_before(ring.committed + 1) or 0

    @property
    def sent(self) -> int:
        """Last seq sent whole."""
        return self.next - 1

    @property
    def committed(self) -> int:
        """Last seq that may be sent."""
        return self._ring.committed

    @property
    def pending(self) -> int:
        """Committed seqs that were not sent whole."""
        behind = self._ring.committed - self.next + 1
        return behind if behind > 0 else 0

    def missing(self) -> bool:
        """Return whether the next seq must be read from the log first."""
        if self.next > self._ring.committed or self._paged():
            return False
        return self.next < self._ring.first

    def ready(self) -> int | None:
        """Return where what can be sent now begins; None if nothing is committed, or it must be read first."""
        if self.next > self._ring.committed or (self.next < self._ring.first and not self._paged()):
            return None
        return self.position

    def fill(self, entries: Sequence[Numbered]) -> None:
        """Take a page of the log that contains `next` (earlier entries are skipped).

        Raises:
            LocalProtocolError: the page begins after `next`, or ends before it.
        """
        index = self.next - entries[0][0] if entries else -1
        if not 0 <= index < len(entries):
            raise LocalProtocolError(f"the page of the log does not hold seq {self.next}, which was asked for")
        self._page = entries[index:]
        if self.position is None:
            _, after, env = self._page[0]
            self.position = after - weight_bytes(env)
            self.acked_position = max(self.acked_position, self.position)

    def entries(self, limit: int) -> Sequence[Numbered]:
        """Return up to `limit` committed entries from `next` on; none if they are missing."""
        if self.position is None:
            return ()
        if self._page and self._paged():
            start = self.next - self._page[0][0]
            stop = self._ring.committed + 1 - self._page[0][0]
            return self._page[start : min(start + limit, stop)]
        return self._ring.read(self.next, limit)

    def alone(self, text_kinds: frozenset[str]) -> bool:
        """Return whether an event waits that merges with no other, or the first text of a message, which somebody
        waits for. Each event is looked at once.
        """
        if self._alone >= self.next:
            return True
        oldest = self._ring.first
        first = self.next if self.next > self._looked else self._looked + 1
        if first < oldest:
            first = oldest
        opened = ""  # what the event before opened, perhaps: no text, but of the same entity
        for seq, _, env in self._ring.read(first - 1 if first > oldest else oldest, _LOOK_EVENTS + 1):
            text = env[2] in text_kinds
            if seq >= first:
                self._looked = seq
                if (env[6] == opened and opened) if text else env[11] is not TOMBSTONE:
                    self._alone = seq
                    if text:
                        self._opened = seq
                    return True
            opened = "" if text else env[6]
        return False

    @property
    def opens(self) -> bool:
        """True if what `alone` found is the first text of a message."""
        return self._opened >= self.next

    def mend(self, env: Envelope, text_kinds: frozenset[str]) -> None:
        """Forget a `skip` that does not fit event `next` (a client's claim); it trims what it has."""
        if self.skip:
            body = env[11]
            fits = env[2] in text_kinds and body is not TOMBSTONE and self.skip < len(body) and body[0] != SEAL
            if not fits or body[self.skip] & 0xC0 == 0x80:
                self.skip = 0

    def advance(self, batch: Batch) -> None:
        """Go on where the batch ends."""
        self.next, self.skip, self.position = batch.next_seq, batch.next_skip, batch.position
        if self._page and self.next > self._page[-1][0]:
            self._page = ()

    def acknowledge(self, seq: int) -> bool:
        """Take an ack up to a seq that was sent; returns whether it is news."""
        if seq <= self.acked:
            return False
        self.acked = seq
        position = self.position if seq == self.sent else self._ring.position_before(seq + 1)
        self.acked_position = max(self.acked_position, position or 0)
        return True

    def reserve_room(self) -> int:
        """Return how many events of the urgent reserve are free for what is pending; 0 if nothing is.

        Replay (up to `baseline`) and live events have a reserve each.
        """
        if not self.pending or self.position is None or self.missing():
            return 0
        if self.position >= self.reserve_end():
            return 0
        confirmed = max(self.acked, self.baseline) if self.next > self.baseline else self.acked
        return max(0, RESERVE_EVENTS - (self.sent - confirmed))

    def reserve_end(self) -> int:
        """Return the position at which the urgent reserve ends: nothing that starts there is begun."""
        live = self.next > self.baseline
        return RESERVE_BYTES + (max(self.acked_position, self.baseline_position) if live else self.acked_position)

    def overrun(self) -> bool:
        """Return whether a live event waits and the reserve is used up: the client does not read."""
        if not self.pending or self.next <= self.baseline or self.missing():
            return False
        return not self.reserve_room()

    def _paged(self) -> bool:
        return bool(self._page) and self._page[0][0] <= self.next <= self._page[-1][0]
