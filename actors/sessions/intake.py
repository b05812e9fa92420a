"""The inbound journal of a session: which events were accepted, started and ended.

Law of this file: pure bookkeeping over one log stream. A record is written before the step it
tells of is believed (accepted before the OK, started before the handler), so a restart can say
of each event: never started, started n times, or over. Checkpoints keep the stream short.

In a store that dies with its process there is no restart to tell: nothing is written but one checkpoint
when the home goes to sleep, for the home that follows.

Records (first byte, rest): ``A`` msgpack ``[packed envelope...]``; ``S`` and ``D`` msgpack
``[producer, counter, producer, counter...]``; ``C`` msgpack
``{"windows": [[producer, high, bits]...], "pending": [[starts, packed]...], "who": [...], "said": [...],
"runs": [[run, digest]...]}``;
``P`` msgpack ``[producer, subject, [scope...]]``: who speaks as that producer from here on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgpack

from laneway.actors.dispatch.starts import RUN_STARTING, Starts
from laneway.actors.ports import Entry, Principal
from laneway.actors.sessions.pending import EventKey, Pending
from laneway.routing.dedupe import WINDOW, ProducerWindow
from laneway.routing.envelope import BODY, COUNTER, KIND, PRODUCER, RUN, Envelope, envelope_id
from laneway.routing.errors import IdempotencyMismatch, LanewayError, PeerProtocolError

__all__ = ["INBOUND", "Intake", "not_repeated"]

INBOUND: Final = 2
"""Store stream of the inbound journal (0 and 1 are the outbound streams)."""

_MAX_PRODUCERS: Final = 256
_MAX_SAID: Final = 64
_MAX_SAID_BYTES: Final = 131_072


_RECORD_BYTES: Final = 262_144
"""Bodies in one record; a larger event has a record of its own."""


class Intake:
    """Dedupe windows and pending events of one session, and the records that rebuild them.

    Args:
        tenant: whose session it is.
        pack: envelope -> bytes for the journal.
        unpack: the reverse.
        checkpoint_records: records between two checkpoints.
        runs: the newest runs that are remembered.
        journals: write records of events; without them a checkpoint is all there is, see `rest`.

    Attributes:
        pending: accepted events that are not over. deliveries: how often a handler was started on them, if
            it was. covered: seq of the last checkpoint that was read. said: run -> the user's message that
            started it, the newest 64 (128 KiB), also of runs that are over. starts: the runs asked for.
    """

    def __init__(
        self,
        tenant: str,
        pack: Callable[[Envelope], bytes],
        unpack: Callable[[bytes], Envelope],
        checkpoint_records: int = 2048,
        *,
        journals: bool = True,
        runs: int = 512,
    ) -> None:
        self._journals = journals
        self._tenant = tenant
        self._pack = pack
        self._unpack = unpack
        self._who: dict[str, Principal] = {}
        self._windows: dict[str, ProducerWindow] = {}
        self._loudest: str | None = None
        self.starts = Starts(runs)
        self._max_said = min(_MAX_SAID, runs)
        self.pending = Pending()
        self.deliveries: dict[EventKey, int] = {}
        self.covered = 0
        self._seq = 0
        self._position = 0
        self._checkpoint_records = checkpoint_records
        self._since_checkpoint = 0
        self._said_bytes = 0
        self.said: OrderedDict[str, Envelope] = OrderedDict()

    @property
    def head(self) -> int:
        """Seq of the last journal record."""
        return self._seq

    def newest(self, producer: str) -> int:
        """Return the highest counter accepted from a producer, 0 if none: all above it are new."""
        window = self._windows.get(producer)
        return 0 if window is None else window.high

    def seen(self, env: Envelope) -> str:
        """Return "new", "duplicate", "unknown" (older than the window) or "mismatch", without marking it.

        A run's id is looked at too: see `Starts.verdict`.
        """
        counter = env[COUNTER]
        window = self._windows.get(env[PRODUCER])
        if window is not None and counter <= window.high and (found := window.peek(counter)) != "new":
            return found
        if counter < 1:
            return "unknown"
        return self.starts.verdict(env) if env[KIND] in RUN_STARTING else "new"

    def holds(self, env: Envelope) -> bool:
        """True if the event is in the journal and not over."""
        return (env[PRODUCER], env[COUNTER]) in self.pending

    def over(self, producer: str, counter: int) -> bool:
        """True if that event was accepted and is over; False too if it is older than the window."""
        window = self._windows.get(producer)
        return window is not None and window.peek(counter) == "duplicate" and (producer, counter) not in self.pending

    def principal(self, producer: str) -> Principal | None:
        """Return who speaks as that producer, or None if nobody has."""
        return self._who.get(producer)

    def introduce(self, producer: str, principal: Principal) -> Entry | None:
        """Remember who speaks as a producer; returns the record to write if that is news."""
        known = self._who.get(producer)
        if known is principal:
            return None
        if known is not None and (known.subject, known.scopes) == (principal.subject, principal.scopes):
            self._who[producer] = principal
            return None
        self._who[producer] = principal
        return self._record(b"P" + msgpack.packb(_row(producer, principal))) if self._journals else None

    def mark(self, env: Envelope) -> None:
        """Remember the event as accepted, so that a repeat is a duplicate."""
        self._window(env[PRODUCER]).offer(env[COUNTER])

    def mark_all(self, envs: Sequence[Envelope]) -> None:
        """As `mark`, for events of one producer whose counters ascend from above the newest. O(events) with holes."""
        first, last, window = envs[0][COUNTER], envs[-1][COUNTER], self._window(envs[0][PRODUCER])
        if last - first == len(envs) - 1:
            window.offer_run(first, len(envs))
        else:
            for env in envs:
                window.offer(env[COUNTER])

    def _window(self, producer: str) -> ProducerWindow:
        """Return a producer's counters; who speaks now is forgotten last."""
        if producer == self._loudest:
            return self._windows[producer]
        window = self._windows.pop(producer, None)
        if window is None:
            window = ProducerWindow()
            if len(self._windows) >= _MAX_PRODUCERS:
                quietest = next(iter(self._windows))
                del self._windows[quietest]
                self._who.pop(quietest, None)
        self._windows[producer] = window  # last: eviction takes who was quiet longest
        self._loudest = producer
        return window

    def accepted(self, envs: Sequence[Envelope]) -> list[Entry]:
        """Mark accepted durable events of one producer; returns their records.

        Several are in the order of their counters, all of which are new; none of them starts a run.
        """
        self.pending.hold(envs)
        if len(envs) == 1:
            env = envs[0]
            self._window(env[0]).offer(env[1])
            if env[2] in RUN_STARTING:
                self._ask(env)
            return [self._record(b"A" + msgpack.packb([self._pack(env)]))] if self._journals else []
        self.mark_all(envs)
        if not self._journals:
            return []
        return [self._record(b"A" + msgpack.packb([self._pack(env) for env in some])) for some in _in_records(envs)]

    def started(self, envs: Iterable[Envelope]) -> Entry | None:
        """Return the record of deliveries about to be made; None if none of the events is journalled."""
        begun = self.pending.among(envs)
        for key in begun:
            self.deliveries[key] = self.deliveries.get(key, 0) + 1
        return self._told(b"S", begun)

    def run_over(self, run: str) -> bool:
        """Return whether a run was asked for and has ended. O(pending)."""
        return self.starts.known(run) and all(env[RUN] != run for env in self.pending.values())

    def ended(self, envs: Sequence[Envelope]) -> Entry | None:
        """Return the record of events that are over; None if none of them is journalled."""
        over = self.pending.end(envs)
        if self.deliveries:
            for key in over:
                self.deliveries.pop(key, None)
        return self._told(b"D", over)

    def _told(self, kind: bytes, keys: Sequence[EventKey]) -> Entry | None:
        if not keys or not self._journals:
            return None
        return self._record(kind + msgpack.packb([field for key in keys for field in key]))

    def rest(self) -> Entry | None:
        """Return the record for the home that follows this one, if it has no other; None if it has."""
        return None if self._journals or not self._windows else self._state()

    def checkpoint(self) -> Entry | None:
        """Return a record that stands for all before it, if enough were written since the last."""
        return self._state() if self._since_checkpoint >= self._checkpoint_records else None

    def _state(self) -> Entry:
        windows = [_window(name, window) for name, window in self._windows.items()]
        pending = [[self.deliveries.get(key, 0), self._pack(env)] for key, env in self.pending.items()]
        who = [_row(producer, principal) for producer, principal in self._who.items()]
        said = [self._pack(env) for env in self.said.values()]
        self._since_checkpoint = -1
        state = {"windows": windows, "pending": pending, "who": who, "said": said, "runs": self.starts.rows()}
        return self._record(b"C" + msgpack.packb(state))

    def restore(self, entries: Iterable[Entry]) -> None:
        """Rebuild from journal records in order; unknown record types are skipped."""
        for entry in entries:
            self._seq, self._position = entry.seq, entry.position
            self._since_checkpoint += 1
            kind, rest = entry.blob[:1], entry.blob[1:]
            if kind == b"A":
                for packed in msgpack.unpackb(rest):
                    env = self._unpack(packed)
                    self.mark(env)
                    self.pending.hold((env,))
                    if env[2] in RUN_STARTING:
                        self._ask(env)
            elif kind == b"S":
                for key in _keys(rest):
                    if key in self.pending:
                        self.deliveries[key] = self.deliveries.get(key, 0) + 1
            elif kind == b"D":
                for key in _keys(rest):
                    self.pending.drop(*key)
                    self.deliveries.pop(key, None)
            elif kind == b"P":
                self._learn(msgpack.unpackb(rest))
            elif kind == b"C":
                self._restore_checkpoint(rest)
                self.covered = entry.seq
        # who sent nothing that is journalled will be introduced again
        self._who = {name: who for name, who in self._who.items() if name in self._windows}

    def _ask(self, env: Envelope) -> None:
        """Remember the run that an accepted event asks for."""
        self.starts.ask(env)
        if env[2] == "USER_MESSAGE":
            self._keep(env)

    def _keep(self, env: Envelope) -> None:
        """Remember what the user said in this run, for the transcript of a later home."""
        if env[RUN] in self.said:
            return
        self.said[env[RUN]] = env
        self._said_bytes += len(env[BODY])
        while len(self.said) > self._max_said or (self._said_bytes > _MAX_SAID_BYTES and len(self.said) > 1):
            self._said_bytes -= len(self.said.popitem(last=False)[1][BODY])

    def _restore_checkpoint(self, blob: bytes) -> None:
        state = msgpack.unpackb(blob)
        self._who, self.said, self._said_bytes = {}, OrderedDict(), 0
        self._loudest = None
        self._windows = {
            name: ProducerWindow.from_state(high, int.from_bytes(bits, "big")) for name, high, bits in state["windows"]
        }
        self.pending, self.deliveries = Pending(), {}
        for starts, packed in state["pending"]:
            env = self._unpack(packed)
            self.pending.hold((env,))
            if starts:
                self.deliveries[env[PRODUCER], env[COUNTER]] = starts
        for row in state["who"]:
            self._learn(row)
        for packed in state["said"]:
            self._keep(self._unpack(packed))
        self.starts.restore(state["runs"])
        self._since_checkpoint = 0

    def _learn(self, row: list[object]) -> None:
        producer, subject, scopes = row
        assert isinstance(scopes, list)
        self._who[str(producer)] = Principal(str(subject), self._tenant, frozenset(scopes))

    def _record(self, blob: bytes) -> Entry:
        self._seq += 1
        self._position += len(blob)
        self._since_checkpoint += 1
        return Entry(INBOUND, self._seq, self._position, blob)


def _window(name: str, window: ProducerWindow) -> list[object]:
    """Name, highest counter, bitmap as bytes: msgpack's integers end at 64 bits."""
    high, bits = window.state()
    return [name, high, bits.to_bytes(WINDOW // 8, "big")]


def _row(producer: str, principal: Principal) -> list[object]:
    return [producer, principal.subject, sorted(principal.scopes)]


def not_repeated(env: Envelope, seen: str) -> LanewayError:
    """Return why an event that came before is refused: it was "unknown" or a "mismatch" to `Intake.seen`."""
    if seen == "mismatch":
        return IdempotencyMismatch(
            f"run {env[RUN]!r} was asked for with another input before; give every run an id of its own"
        )
    return PeerProtocolError(
        f"event {envelope_id(env)} is older than the dedupe window; it may have been handled",
        reason="DUPLICATE_UNKNOWN",
    )


def _keys(blob: bytes) -> Iterable[EventKey]:
    fields = msgpack.unpackb(blob)
    return zip(fields[::2], fields[1::2], strict=True)


def _in_records(envs: Sequence[Envelope]) -> Iterable[Sequence[Envelope]]:
    """Cut accepted events into what one record holds."""
    start = size = 0
    for place, env in enumerate(envs):
        size += len(env[BODY])
        if size > _RECORD_BYTES and place > start:
            yield envs[start:place]
            start, size = place, len(env[BODY])
    yield envs[start:]
