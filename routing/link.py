"""The link: protocol state of one client of a session, without I/O.

Law of this file: a link is two cursors over the session's rings and never a queue of its own. It sends nothing
above `committed`, nothing that begins beyond the client's credit, and urgent before data. What is due is asked
of it (`poll`), what came is told to it (`receive`), and time comes in as an argument, so that the same code
runs on an event loop, in a simulation and in a property test.

A frame goes out at once for urgent events, for header content but answers, and for the first data after
silence; else when `flush.py` says so (batching divides the cost of a gRPC write by the batch: research of the
edge, 19 us to 2 us an event). Urgent uses no credit: it has a reserve of 64 unacked events and 64 KiB, beyond
which the link closes SLOW_CONSUMER and never drops. Replay of what was there before the link is exempt: it is
sent a reserve at a time, as acks come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from laneway.routing.chunker import Cutter
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope
from laneway.routing.errors import (
    LanewayError,
    LinkClosed,
    LinkLost,
    LocalProtocolError,
    PeerProtocolError,
    SlowConsumer,
)
from laneway.routing.flush import FlushTimer
from laneway.routing.handshake import LinkPlan, parse_count, parse_cursor
from laneway.routing.headers import HeaderQueue, notice
from laneway.routing.heartbeat import Heartbeat
from laneway.routing.items import Batch, plan_items
from laneway.routing.linkstate import step
from laneway.routing.quality import Grade, Quality, within
from laneway.routing.reader import RESERVE_BYTES, RESERVE_EVENTS, StreamReader
from laneway.routing.replay import Cursor, Numbered, ReplayRing
from laneway.routing.shedding import Shedding
from laneway.routing.tally import LinkStatistics, Tally
from laneway.routing.window import INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES, CreditWindow

__all__ = ["DATA", "URGENT", "Cursor", "Link", "LinkFrame", "LinkStatistics"]

URGENT: Final = 0
"""Stream of the critical lane."""
DATA: Final = 1
"""Stream of everything else."""

_FRAME_BYTES: Final = 65_536
"""A frame stops growing here, so that an urgent one never waits behind more than this on the wire."""
_READ_EVENTS: Final = 512
_CLOSING_FRAMES: Final = 64
_UNLIMITED: Final = float("inf")


class LinkFrame(NamedTuple):
    """A frame to write: header fields and the envelopes of its items, in order."""

    header: dict[str, Any]
    envelopes: list[Envelope]


class Link:
    """One live connection's protocol state.

    Args:
        plan: what was agreed in the handshake.
        urgent, data: the session's rings, shared with every other link.
        cursor: what the client has; sending starts after it.
        kinds: tells which kinds are text. now: monotonic seconds.
        shedding: has the level of overload.

    Raises:
        LocalProtocolError: the cursor lies beyond what was numbered (check it before).
    """

    def __init__(
        self,
        plan: LinkPlan,
        urgent: ReplayRing,
        data: ReplayRing,
        cursor: Cursor,
        kinds: KindTable,
        now: float,
        shedding: Shedding | None = None,
    ) -> None:
        if cursor.urgent > urgent.committed or cursor.data > data.committed:
            raise LocalProtocolError(f"cursor {cursor} lies beyond the committed events of its session")
        self.plan = plan
        self.quality = Quality()
        self._grade = self.quality.grade
        self._epoch = cursor.epoch
        self._urgent = StreamReader(urgent, cursor.urgent)
        self._data = StreamReader(data, cursor.data, cursor.skip)
        self._readers = (self._urgent, self._data)
        start = self._data.start
        self._window = CreditWindow(0, 0) if start is None else CreditWindow(start)
        self._untold_position = start is None
        self._text_kinds = kinds.text
        self._chunk_chars, self._cutter = plan.chunk_chars, Cutter(plan.segmenter)
        self._state = "OPEN"
        self._error: LanewayError | None = None
        self._now = now
        self._heartbeat = Heartbeat(plan.heartbeat_s, plan.dead_after_s, now) if plan.grants else None
        self._headers = HeaderQueue()
        self._answers_at: float | None = None
        self._timer = FlushTimer(plan.flush_s, plan.max_items, plan.pace_bytes_per_s, shedding)
        self._tally = Tally((cursor.urgent, cursor.data))

    @property
    def closed(self) -> LanewayError | None:
        """Why the link is over, or None while it lives. What is due can still be polled once."""
        return self._error

    @property
    def state(self) -> str:
        """OPEN, LIVE, CLOSING or CLOSED."""
        return self._state

    @property
    def start_position(self) -> int | None:
        """Data position where sending starts; None if only the log knows (the first frame says it)."""
        return self._data.start

    @property
    def position(self) -> int | None:
        """Data position where the next seq starts, or None while only the log knows."""
        return self._data.position

    @property
    def granted(self) -> int:
        """Absolute data position up to which this link lets producers run, at most 1 MiB ahead of itself."""
        position = self._data.position or 0
        if not self.plan.grants:
            return position + INITIAL_WINDOW_BYTES
        return min(self._window.granted, position + MAX_WINDOW_BYTES)

    @property
    def sent(self) -> Cursor:
        """Last seqs sent whole."""
        urgent, data = self._readers
        return Cursor(self._epoch, urgent.sent, data.sent, data.skip)

    @property
    def acked(self) -> Cursor:
        """Last seqs the client confirmed."""
        return Cursor(self._epoch, self._urgent.acked, self._data.acked)

    @property
    def acked_position(self) -> int:
        """Data position the client confirmed, as far as the ring can tell."""
        return self._data.acked_position

    def statistics(self) -> LinkStatistics:
        """Return the counters of this moment."""
        return self._tally.statistics(self._readers, self._grade)

    def receive(self, header: Mapping[str, object], now: float) -> None:
        """Take the header of a client's frame; unknown keys are skipped.

        Raises:
            PeerProtocolError: an ack of something not sent, of another epoch, or a wrong type. The
                link is unchanged by the offending field.
        """
        if self._state == "CLOSED":
            return
        self._now = now
        if self._heartbeat is not None:
            self._heartbeat.heard(now)
            if "pong" in header and (rtt_s := self._heartbeat.pong(header["pong"], now)) is not None:
                self._adapt(self.quality.sample(rtt_s=rtt_s))
        if "ack" in header:
            self._acknowledge(parse_cursor(header["ack"], "ack"), now)
        if "grant" in header:
            self._window.grant(parse_count(header["grant"], "grant"))
        if "ping" in header:
            self._headers.add("pong", parse_count(header["ping"], "ping"))
        if header.get("bye") is True:
            self._error = self._error or LinkClosed("the client closed the link; the session goes on")
            self._step("bye")

    def tell(self, now: float, /, **fields: object) -> None:
        """Put header content into the next frame.

        Lists (`ok`, `refused`) gather for a moment; all else goes at once, in a frame of its own if the field
        is taken. A link that is not polled while 8,192 answers gather closes SLOW_CONSUMER.
        """
        self._now = now
        for name, value in fields.items():
            self._headers.add(name, value)
        if self._answers_at is None:
            self._answers_at = self._timer.answers_at(now, refusing=self._headers.refusing)
        if self._headers.overfull:
            self.close(SlowConsumer("thousands of answers wait unread on this link; read, then resume"))

    def fill(self, stream: int, entries: Sequence[Numbered]) -> None:
        """Take a page of the log that `missing` asked for.

        Raises:
            LocalProtocolError: the page does not hold the seq that was asked for.
        """
        reader = self._readers[stream]
        unknown = reader.position is None
        reader.fill(entries)
        if stream == DATA and unknown and reader.position is not None:
            self._window.grant(reader.position + INITIAL_WINDOW_BYTES)

    def close(self, error: LanewayError) -> None:
        """End the link: one more `poll` gives what is due and a fatal notice. The first error stays."""
        if self._error is None:
            self._error = error
            self._step("close")

    def missing(self) -> tuple[int, int] | None:
        """Return (stream, seq) that must be read from the log before the link can go on, or None."""
        for stream, reader in enumerate(self._readers):
            if reader.missing():
                return stream, reader.next
        return None

    def deadline(self) -> float | None:
        """Return when `poll` should next be called if nothing happens before; None = never."""
        if self._state == "CLOSED":
            return None
        if self._state == "CLOSING" or self._urgent.reserve_room() or self._headers_due(self._now):
            return self._now
        times = [] if self._heartbeat is None else [self._heartbeat.due_at]
        if self._answers_at is not None:
            times.append(self._answers_at)
        if self._sendable():
            times.append(self._now if self._timer.due_at is None else self._timer.due_at)
        return min(times, default=None)

    @property
    def stirs(self) -> bool:
        """True if what was just committed may be due before `deadline`; else looking then is early enough."""
        planned = self._state == "LIVE" and self._timer.due_at is not None and not self._timer.holding
        if not planned or self._data.pending >= self.plan.max_items or self._urgent.pending > 0:
            return True
        return self._timer.patient and self._data.alone(self._text_kinds)

    @property
    def speaks(self) -> bool:
        """True if header content waits that may be due before `deadline`; else looking then is early enough."""
        return self._headers.waiting and not self._headers.patient

    @property
    def idle(self) -> bool:
        """True if nothing but answers waits: no ack and no grant makes `poll` give anything before `deadline`."""
        return self._state == "LIVE" and not (self._data.pending or self._urgent.pending or self.speaks)

    def poll(self, now: float) -> list[LinkFrame]:
        """Return the frames due now, urgent first; at most one data frame, so call until empty."""
        self._now = now
        if self._state == "CLOSED":
            return []
        hurry = self._urgent.pending > 0
        if self._error is None and (hurry or (self._heartbeat is not None and not self._heartbeat.calm(now))):
            self._watch(now)
        urgent = self._take_urgent(now) if hurry else None
        closing = self._error is not None
        force = urgent is not None or closing or self._headers_due(now)
        batches = [] if urgent is None else [(URGENT, urgent)]
        if closing:
            batches.extend(self._drain(now))
        elif self._data_due(now, force) and (batch := self._take_data(now)) is not None:
            batches.append((DATA, batch))
        frames = self._frame(batches) if force or batches else []
        if frames:
            self._answers_at = None
            self._timer.went(now)
        if self._error is not None:
            frames.append(LinkFrame({"notice": notice(self._error, fatal=True)}, []))
        self._tally.frames(len(frames))
        if self._state != "LIVE":
            self._step("poll")
        return frames

    def _step(self, event: str) -> None:
        self._state = step(self._state, event)

    def _acknowledge(self, ack: Cursor, now: float) -> None:
        if ack.epoch != self._epoch:
            raise PeerProtocolError(f"ack of epoch {ack.epoch[:64]!r} on a link of another", reason="EPOCH_MISMATCH")
        for reader, seq in zip(self._readers, (ack.urgent, ack.data), strict=True):
            if seq > reader.sent:
                raise PeerProtocolError(f"ack of seq {seq}, but only {reader.sent} was sent", reason="OUT_OF_RANGE")
        self._urgent.acknowledge(ack.urgent)
        if self._data.acknowledge(ack.data):
            self._adapt(self.quality.acked(ack.data, self.acked_position, now))

    def _adapt(self, grade: Grade) -> None:
        """Follow the measured quality, and tell the client."""
        if grade is not self._grade:
            self._grade, plan = grade, within(grade, self.plan.chunk_chars, self.plan.flush_s)
            self._chunk_chars, self._timer.flush_s = plan
            self._headers.add("quality", {"grade": grade.name.lower(), **plan._asdict()})

    def _watch(self, now: float) -> None:
        """Close what is silent or too slow; send the heartbeat."""
        if self._urgent.overrun():
            self.close(SlowConsumer(f"{RESERVE_EVENTS} urgent events or {RESERVE_BYTES} bytes wait for an ack; resume"))
        if self._heartbeat is None:
            return
        if self._heartbeat.lost(now):
            self.close(LinkLost(f"no frame from the client for {self.plan.dead_after_s:g} s; connect again and resume"))
        elif number := self._heartbeat.ping(now):
            self._headers.add("ping", number)
        elif late_s := self._heartbeat.late_s(now):
            self._adapt(self.quality.sample(rtt_s=late_s))

    def _headers_due(self, now: float) -> bool:
        return self._headers.waiting and (not self._headers.patient or now >= (self._answers_at or 0.0))

    def _take_urgent(self, now: float) -> Batch | None:
        room = self._urgent.reserve_room()
        return self._take(URGENT, now, room, RESERVE_BYTES, self._urgent.reserve_end()) if room else None

    def _sendable(self) -> bool:
        position = self._data.ready()
        return position is not None and (not self.plan.grants or self._window.can_send(position))

    def _data_due(self, now: float, force: bool) -> bool:
        if not self._sendable():
            self._timer.nothing()
            return False
        reader, alone = self._data, self._data.alone(self._text_kinds)
        head, opens = reader.committed, alone and reader.opens
        return self._timer.due(now, head - reader.next + 1, head, force=force, alone=alone, opens=opens)

    def _take_data(self, now: float) -> Batch | None:
        reader, timer = self._data, self._timer
        room = min(_FRAME_BYTES, self.plan.max_frame_bytes // 2)
        if self._error is None:
            room = timer.room(now, room)
        grant = self._window.granted if self.plan.grants else _UNLIMITED
        batch = self._take(DATA, now, _READ_EVENTS, room, grant)
        if batch is None:
            return None
        if not batch.held:
            timer.release()
        if batch.envelopes:
            timer.sent(
                now, batch.bytes, len(batch.envelopes), more=not batch.held and reader.pending > 0 and self._sendable()
            )
            self.quality.sent(reader.next - 1, reader.acked_position, now)
            if self._heartbeat is not None and (number := self._heartbeat.ride(now)):
                self._headers.add("ping", number)
        if batch.held:
            timer.hold(now, reader.committed, afresh=bool(batch.envelopes))
        return batch if batch.envelopes else None

    def _take(self, stream: int, now: float, limit: int, room: int, grant: float) -> Batch | None:
        """Read, fold and account for one frame's items of a stream; None if nothing is there."""
        reader = self._readers[stream]
        entries = reader.entries(limit)
        if not entries or reader.position is None:
            return None
        if reader.skip:
            reader.mend(entries[0][2], self._text_kinds)
        batch = plan_items(
            entries,
            reader.position,
            reader.skip,
            self._text_kinds,
            grant=grant,
            chunk_chars=self._chunk_chars,
            max_items=self.plan.max_items,
            room_bytes=room,
            cutter=self._cutter,
            hold=stream == DATA and self.plan.hold_sentence and self._error is None and self._timer.may_hold(now),
        )
        reader.advance(batch)
        if not self.plan.grants:
            reader.acknowledge(reader.sent)  # such a client cannot ack: sent is the best that is known
        self._tally.take(stream, batch)
        return batch

    def _drain(self, now: float) -> list[tuple[int, Batch]]:
        """Take what is left within credit when the link ends."""
        batches: list[tuple[int, Batch]] = []
        while len(batches) < _CLOSING_FRAMES and self._sendable() and (batch := self._take_data(now)) is not None:
            batches.append((DATA, batch))
        return batches

    def _frame(self, batches: Sequence[tuple[int, Batch]]) -> list[LinkFrame]:
        """Put items and header content together, each in order."""
        frames: list[LinkFrame] = []
        for stream, batch in batches:
            header = self._headers.take()
            header.update(batch.header(stream))
            if stream == DATA and self._untold_position:
                header["position"] = batch.start
                self._untold_position = False
            frames.append(LinkFrame(header, batch.envelopes))
        while self._headers.waiting:
            frames.append(LinkFrame(self._headers.take(), []))
        return frames
