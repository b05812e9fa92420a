"""The inbound journal of a session: which events were accepted, started and ended.

Law of this file: pure bookkeeping over one log stream. A record is written before the step it
tells of is believed (accepted before the OK, started before the handler), so a restart can say
of each event: never started, started n times, or over. Checkpoints keep the stream short.

Records (first byte, rest): ``A`` packed envelope; ``S`` id; ``D`` id; ``C`` msgpack
``{"windows": [[producer, high, bits]...], "pending": [[starts, packed]...], "who": [...], "said": [...],
"runs": [[run, digest]...]}``;
``P`` msgpack ``[producer, subject, [scope...]]``: who speaks as that producer from here on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgpack

from laneway.actors.ports import Entry, Principal
from laneway.actors.starts import RUN_STARTING, Starts
from laneway.routing.dedupe import WINDOW, ProducerWindow
from laneway.routing.envelope import BODY, COUNTER, KIND, PRODUCER, RUN, Envelope, envelope_id

__all__ = ["INBOUND", "Intake", "Pending"]

INBOUND: Final = 2
"""Store stream of the inbound journal (0 and 1 are the outbound streams)."""

_MAX_PRODUCERS: Final = 256
_MAX_SAID: Final = 64
_MAX_SAID_BYTES: Final = 131_072


@dataclass(slots=True)
class Pending:
    """An accepted event that is not over: its envelope and how often a handler was started."""

    env: Envelope
    starts: int = 0


class Intake:
    """Dedupe windows and pending events of one session, and the records that rebuild them.

    Args:
        tenant: whose session it is.
        pack: envelope -> bytes for the journal.
        unpack: the reverse.
        checkpoint_records: records between two checkpoints.

    Attributes:
        pending: event id -> accepted and not over. said: run -> the user's message that started it,
            the newest 64 (128 KiB), also of runs that are over. starts: the runs that were asked for.
    """

    def __init__(
        self,
        tenant: str,
        pack: Callable[[Envelope], bytes],
        unpack: Callable[[bytes], Envelope],
        checkpoint_records: int = 2048,
    ) -> None:
        self._tenant = tenant
        self._pack = pack
        self._unpack = unpack
        self._who: dict[str, Principal] = {}
        self._windows: dict[str, ProducerWindow] = {}
        self._loudest: str | None = None
        self.starts = Starts()
        self.pending: dict[str, Pending] = {}
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
        return envelope_id(env) in self.pending

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
        return self._record(b"P" + msgpack.packb(_row(producer, principal)))

    def mark(self, env: Envelope) -> None:
        """Remember the event as accepted, so that a repeat is a duplicate."""
        producer = env[PRODUCER]
        if producer == self._loudest:
            self._windows[producer].offer(env[COUNTER])
            return
        window = self._windows.pop(producer, None)
        if window is None:
            window = ProducerWindow()
            if len(self._windows) >= _MAX_PRODUCERS:
                quietest = next(iter(self._windows))
                del self._windows[quietest]
                self._who.pop(quietest, None)
        self._windows[producer] = window  # last: eviction takes who was quiet longest
        self._loudest = producer
        window.offer(env[COUNTER])

    def accepted(self, env: Envelope) -> Entry:
        """Mark and return the record of an accepted durable event."""
        self._take(env)
        return self._record(b"A" + self._pack(env))

    def started(self, envs: Iterable[Envelope]) -> list[Entry]:
        """Return the records of deliveries about to be made (events not journalled give none)."""
        records = []
        for env in envs:
            pending = self.pending.get(envelope_id(env))
            if pending is not None:
                pending.starts += 1
                records.append(self._record(b"S" + envelope_id(env).encode()))
        return records

    def run_over(self, run: str) -> bool:
        """Return whether a run was asked for and has ended. O(pending)."""
        return self.starts.known(run) and all(item.env[RUN] != run for item in self.pending.values())

    def ended(self, env: Envelope) -> Entry | None:
        """Return the record of an event that is over, or None if it was not journalled."""
        key = envelope_id(env)
        if self.pending.pop(key, None) is None:
            return None
        return self._record(b"D" + key.encode())

    def checkpoint(self) -> Entry | None:
        """Return a record that stands for all before it, if enough were written since the last."""
        if self._since_checkpoint < self._checkpoint_records:
            return None
        windows = [_window(name, window) for name, window in self._windows.items()]
        pending = [[item.starts, self._pack(item.env)] for item in self.pending.values()]
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
                self._take(self._unpack(rest))
            elif kind == b"S":
                if (item := self.pending.get(rest.decode())) is not None:
                    item.starts += 1
            elif kind == b"D":
                self.pending.pop(rest.decode(), None)
            elif kind == b"P":
                self._learn(msgpack.unpackb(rest))
            elif kind == b"C":
                self._restore_checkpoint(rest)
        # who sent nothing that is journalled will be introduced again
        self._who = {name: who for name, who in self._who.items() if name in self._windows}

    def _take(self, env: Envelope) -> None:
        self.mark(env)
        self.pending[envelope_id(env)] = Pending(env)
        if env[KIND] in RUN_STARTING:
            self.starts.ask(env)
        if env[KIND] == "USER_MESSAGE":
            self._keep(env)

    def _keep(self, env: Envelope) -> None:
        """Remember what the user said in this run, for the transcript of a later home."""
        if env[RUN] in self.said:
            return
        self.said[env[RUN]] = env
        self._said_bytes += len(env[BODY])
        while len(self.said) > _MAX_SAID or (self._said_bytes > _MAX_SAID_BYTES and len(self.said) > 1):
            self._said_bytes -= len(self.said.popitem(last=False)[1][BODY])

    def _restore_checkpoint(self, blob: bytes) -> None:
        state = msgpack.unpackb(blob)
        self._who, self.said, self._said_bytes = {}, OrderedDict(), 0
        self._loudest = None
        self._windows = {
            name: ProducerWindow.from_state(high, int.from_bytes(bits, "big")) for name, high, bits in state["windows"]
        }
        self.pending = {}
        for starts, packed in state["pending"]:
            env = self._unpack(packed)
            self.pending[envelope_id(env)] = Pending(env, starts)
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
