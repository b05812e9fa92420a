"""The inbox: the receiving half of a link, without I/O; what a client knows and what it owes.

Law of this file: every seq is given to the application once and in order, or is covered by a GAP,
or belongs to a run that an error already ended (voided, counted); a hole is an error, never
skipped over. The inbox outlives its connections: it is asked for the cursor before a resume, and
resent bytes are trimmed, so that text after a cut in mid-delta equals text without one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple, overload

from laneway.routing.envelope import KIND, RUN, Envelope, with_body
from laneway.routing.errors import PeerProtocolError
from laneway.routing.handshake import parse_count, parse_cursor
from laneway.routing.items import GAP_KIND, Gap, WireItem, read_gap, read_items
from laneway.routing.packed import unpack_map
from laneway.routing.replay import SEQ_COST_BYTES, Cursor
from laneway.routing.window import INITIAL_WINDOW_BYTES, GrantPolicy

__all__ = ["SNAPSHOT", "Given", "Inbox", "Received"]

SNAPSHOT: Final = -1
"""`Received.stream` of an event outside the numbering, which replaces what could not be replayed."""

_URGENT: Final = 0
_DATA: Final = 1
_ACK_DELAY_S: Final = 0.100
"""An ack frees nothing that anybody waits for: credit is granted by itself, and what is urgent is acked at
once. At 50 tokens a second it goes with five of them; a third of the time a client waits for one (quality.py)."""
_ACK_EVENTS: Final = 256
"""So many are acked at once: an ack costs both sides as much as sixty events do, and keeps as little as they weigh."""
_MAX_VOIDED_RUNS: Final = 256


class Received(NamedTuple):
    """One item for the application, trimmed of every byte it already had.

    Attributes:
        stream: 0 urgent, 1 data, SNAPSHOT.
        first, last: the seqs it covers, whole or in part.
        whole: seq `last` is complete; if not, its rest comes in the next item of the stream.
        envelope: the event; merged text carries the header of its first event.
        gap: what was dropped, if this is a GAP.
    """

    stream: int
    first: int
    last: int
    whole: bool
    envelope: Envelope
    gap: Gap | None = None


class Given(Sequence[Received]):
    """What one frame gave, in order; its rows are made when somebody looks at them.

    Attributes:
        envelopes: their events: all that who only reads needs.
    """

    __slots__ = ("_first", "_made", "_stream", "envelopes")

    def __init__(
        self, stream: int, first: int, envelopes: Sequence[Envelope], made: Sequence[Received] | None = None
    ) -> None:
        self._stream = stream
        self._first = first
        self._made = made
        self.envelopes = envelopes

    def __len__(self) -> int:
        return len(self.envelopes)

    def __iter__(self) -> Iterator[Received]:
        return iter(self._rows())

    @overload
    def __getitem__(self, index: int) -> Received: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Received]: ...
    def __getitem__(self, index: int | slice) -> Received | Sequence[Received]:
        return self._rows()[index]

    def _rows(self) -> Sequence[Received]:
        if self._made is None:  # of a plain frame: each item is one whole seq
            seqs = range(self._first, self._first + len(self.envelopes))
            rows = zip(repeat(self._stream), seqs, seqs, repeat(True), self.envelopes, repeat(None))
            self._made = list(map(tuple.__new__, repeat(Received), rows))  # half of what a call of the class takes
        return self._made


_NOTHING: Final = Given(_DATA, 0, (), ())


class Inbox:
    """A client's place in both streams of one session.

    Args:
        cursor: where to go on (from a former process), or None for a fresh start.
        ack_delay_s: longest wait of an ack for company.

    Attributes:
        voided: data items not given because their run had ended in an error.
        gapped: seqs that GAPs covered.
        conflated: seqs left out because the state that came after them made them unnecessary.
    """

    def __init__(self, cursor: Cursor | None = None, *, ack_delay_s: float = _ACK_DELAY_S) -> None:
        start = cursor or Cursor()
        self._epoch = start.epoch
        self._next = [start.urgent + 1, start.data + 1]
        self._skip = [0, start.skip]
        self._consumed: int | None = None
        self._policy: GrantPolicy | None = None
        self._ack_delay_s = ack_delay_s
        self._unacked = 0
        self._ack_at: float | None = None
        self._dead_runs: OrderedDict[str, int] = OrderedDict()
        self.voided = 0
        self.gapped = 0
        self.conflated = 0

    @property
    def cursor(self) -> Cursor:
        """What a resume should ask for."""
        return Cursor(self._epoch, self._next[_URGENT] - 1, self._next[_DATA] - 1, self._skip[_DATA])

    @property
    def skip(self) -> int:
        """Bytes already had of the data seq after the cursor."""
        return self._skip[_DATA]

    @property
    def position(self) -> int | None:
        """Data position received so far, or None before the engine told where it starts."""
        return self._consumed

    @property
    def grant(self) -> int | None:
        """Data position last granted, or None before it is known."""
        return None if self._policy is None else self._policy.granted

    def receive(self, header: Mapping[str, Any], envelopes: Sequence[Envelope], now: float) -> Given:
        """Take one frame; returns what is new in it, in order. Unknown header keys are skipped. A frame that goes on
        exactly here, in whole seqs, costs 0.1 us an event.

        Raises:
            PeerProtocolError: HOLE, OVERLAP, BAD_SHAPE, BAD_WELCOME or a wrong type. The
                connection must be given up; the cursor still tells what was given.
        """
        if "welcome" in header:
            self._begin(header["welcome"])
        if header.get("snapshot") is True:
            return _given([Received(SNAPSHOT, 0, 0, True, env) for env in envelopes])
        if not envelopes:
            return _NOTHING
        stream = header.get("stream")
        if type(stream) is not int or stream not in (_URGENT, _DATA):
            raise PeerProtocolError("a frame with items must name stream 0 or 1", reason="BAD_SHAPE")
        if stream == _DATA and self._consumed is None and "position" in header:
            self._learn(parse_count(header["position"], "position"), None)
        if self._is_plain(stream, header, envelopes):
            given = Given(stream, self._next[stream], envelopes)
            self._take_plain(envelopes)
        else:
            items = [self._take(stream, item) for item in read_items(header, envelopes)]
            given = _given([item for item in items if item is not None])
        self._owe(stream, now)
        return given

    def ack_due(self, now: float, unread_bytes: int = 0) -> dict[str, Any] | None:
        """Return the header to send now (ack, perhaps a grant), or None.

        Args:
            now: monotonic seconds.
            unread_bytes: bodies given out that the application has not taken yet; they hold
                back the grant, not the ack.
        """
        grant = None
        if self._policy is not None and self._consumed is not None:
            grant = self._policy.due(max(0, self._consumed - unread_bytes), now, idle=not unread_bytes)
        if grant is None and (self._ack_at is None or now < self._ack_at):
            return None
        self._ack_at, self._unacked = None, 0
        header: dict[str, Any] = {"ack": list(self.cursor[:3])}
        if grant is not None:
            header["grant"] = grant
        return header

    def deadline(self) -> float | None:
        """Return when `ack_due` will have something, or None."""
        return self._ack_at

    def _begin(self, welcome: object) -> None:
        """Take the answer to a hello: go on, or start anew where the engine says."""
        if not isinstance(welcome, Mapping):
            raise PeerProtocolError("welcome must be a map", reason="BAD_WELCOME")
        cursor = parse_cursor(welcome.get("cursor"), "welcome.cursor")
        if welcome.get("resume") == "resumed":
            if cursor[:3] != self.cursor[:3]:
                raise PeerProtocolError("the engine resumes from another cursor than asked", reason="BAD_WELCOME")
        else:
            self._epoch = cursor.epoch
            self._next = [cursor.urgent + 1, cursor.data + 1]
            self._skip = [0, 0]
            self._consumed = None
            self._dead_runs.clear()
        self._policy = None
        self._ack_at, self._unacked = None, 0
        position, grant = welcome.get("position"), welcome.get("grant")
        if position is not None:
            self._learn(parse_count(position, "position"), None if grant is None else parse_count(grant, "grant"))
        elif self._consumed is not None:
            self._learn(self._consumed - self._skip[_DATA], None)

    def _learn(self, position: int, granted: int | None) -> None:
        """The data stream goes on at this position (start of the next seq)."""
        self._consumed = position + self._skip[_DATA]
        self._policy = GrantPolicy(self._consumed, granted or position + INITIAL_WINDOW_BYTES)

    def _owe(self, stream: int, now: float) -> None:
        if self._ack_at is None:
            self._ack_at = now + self._ack_delay_s
        if stream == _URGENT or self._unacked >= _ACK_EVENTS:
            self._ack_at = min(self._ack_at, now)
        if stream == _DATA and self._policy is not None:
            self._policy.arrived(now)

    def _is_plain(self, stream: int, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> bool:
        """Return whether the frame goes on exactly here, in whole seqs of which none is a GAP: nearly every frame."""
        if stream != _DATA or "shape" in header or "skip" in header or self._skip[_DATA] or self._dead_runs:
            return False
        first = header.get("first")
        return type(first) is int and first == self._next[_DATA] and GAP_KIND not in [env[2] for env in envelopes]

    def _take_plain(self, envelopes: Sequence[Envelope]) -> None:
        count = len(envelopes)
        self._next[_DATA] += count
        self._unacked += count
        if self._consumed is not None:
            self._consumed += sum([len(env[11]) for env in envelopes]) + SEQ_COST_BYTES * count

    def _take(self, stream: int, item: WireItem) -> Received | None:
        wanted, have = self._next[stream], self._skip[stream]
        last = item.first + item.span - 1
        if item.first > wanted or (item.first == wanted and item.skip > have):
            raise PeerProtocolError(
                f"stream {stream} goes on at {item.first}+{item.skip}, but {wanted}+{have} was not received",
                reason="HOLE",
            )
        if last < wanted or (last == wanted and 0 < item.tail <= have):
            return None  # had all of it
        if item.first < wanted:
            raise PeerProtocolError(
                f"an item of stream {stream} covers {item.first}..{last}, but {wanted - 1} was already whole",
                reason="OVERLAP",
            )
        gap = read_gap(item.envelope) if item.envelope[KIND] == GAP_KIND else None
        env = item.envelope if gap is not None else _trimmed(item, have - item.skip)
        self._advance(stream, item, gap, len(env[11]), have)
        self._unacked += item.span
        if gap is None and not env[11] and have > item.skip:
            return None  # only the end of a seq whose bytes were all here
        if self._is_void(stream, item, env):
            return None
        return Received(stream, item.first, last, not item.tail, env, gap)

    def _advance(self, stream: int, item: WireItem, gap: Gap | None, size: int, have: int) -> None:
        self._next[stream] = item.first + item.span - (1 if item.tail else 0)
        self._skip[stream] = item.tail
        if gap is not None:
            self.gapped += item.span
            added = gap.bytes - have
        else:
            added = size + item.passed + SEQ_COST_BYTES * (item.span - (1 if item.tail else 0))
            self.conflated += item.span - 1 if item.passed else 0
        if stream == _DATA and self._consumed is not None:
            self._consumed += added

    def _is_void(self, stream: int, item: WireItem, env: Envelope) -> bool:
        """Return whether this belongs to a run that has already ended in an error."""
        if stream == _URGENT:
            if env[KIND] == "RUN_ERROR":
                self._bury_run(env)
            return False
        after = self._dead_runs.get(env[RUN])
        if after is None:
            return False
        if item.first > after:
            del self._dead_runs[env[RUN]]
            return False
        self.voided += 1
        return True

    def _bury_run(self, env: Envelope) -> None:
        """Remember up to which data seq this run's events are void."""
        try:
            after = unpack_map(env[11]).get("after")
        except PeerProtocolError:
            return  # an error event of another make: nothing says what it stands after
        if type(after) is int and after >= self._next[_DATA]:
            self._dead_runs[env[RUN]] = after
            if len(self._dead_runs) > _MAX_VOIDED_RUNS:
                self._dead_runs.popitem(last=False)


def _given(rows: Sequence[Received]) -> Given:
    return Given(_DATA, 0, [row.envelope for row in rows], rows)


def _trimmed(item: WireItem, had: int) -> Envelope:
    """Return the item's envelope without the first `had` bytes of its body."""
    body = item.envelope[11]
    shortest = had if item.tail == 0 or item.span > 1 else max(had, item.tail - item.skip)
    if len(body) < shortest or (item.span == 1 and item.tail and len(body) != item.tail - item.skip):
        raise PeerProtocolError("an item is shorter than its shape says", reason="BAD_SHAPE")
    return with_body(item.envelope, body[had:]) if had else item.envelope
