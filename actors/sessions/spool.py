"""What a session says, from its number to its links: numbered, gathered for the log, released when it is there.

Law of this file: a number is given in the order of the calls, and what has one reaches the log in that
order, once. Links and the transcript learn of an event at the same moment, when the log has it. Everything
here is done for all that one turn of the loop has gathered, never event by event where that can be helped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from laneway.actors.alarm import nobody
from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Clock
from laneway.actors.sessions.committer import Committer
from laneway.actors.sessions.keeping import Run
from laneway.actors.sessions.stretches import Stretches
from laneway.actors.sessions.transcript import FOLDED, Transcript
from laneway.routing.envelope import RUN, Envelope
from laneway.routing.replay import Numbered, ReplayRing

__all__ = ["DATA", "URGENT", "Spool"]

URGENT: Final = 0
"""Stream of the critical lane."""
DATA: Final = 1
"""Stream of everything else."""
_TEXT: Final = "TEXT_MESSAGE_CONTENT"


class Spool:
    """Both numbered streams of one session; the committer's source.

    Args:
        committer: writes the session's log; bound to this.
        pack: envelope -> bytes for the log.
        ring_events, ring_bytes: of each stream.
        on_commit: called when links may have something new to send. on_stir: called when that will be so with the
            next turn of the loop, before whoever is woken now has his: only where the log takes it at once.
        on_number: told of the events that got a number, before they are written.
        clock, meters: measure how long the first text of a run in `awaited` took.
        stretches: told of sampled events, if they are traced.

    Attributes:
        rings, transcript: what links read; moved by commits.
        awaited: run -> when it was accepted, for runs that have not said anything yet; the owner's to fill.
        gathered: (urgent, data) numbered, and not handed to the log yet; to be looked at only.
        untaken: no link has taken anything since the last number; the owner's to clear.
    """

    __slots__ = (
        *("awaited", "gathered", "rings", "transcript", "untaken"),
        *("_clock", "_committer", "_meters", "_on_commit", "_on_number", "_on_stir", "_pack", "_restored"),
        *("_stretches", "_taken_to"),
    )

    def __init__(
        self,
        committer: Committer,
        pack: Callable[[Envelope], bytes],
        clock: Clock,
        *,
        ring_events: int,
        ring_bytes: int,
        on_commit: Callable[[], None],
        on_number: Callable[[Sequence[Envelope]], None],
        meters: SessionMeters,
        stretches: Stretches | None = None,
        on_stir: Callable[[], None] = lambda: None,
    ) -> None:
        self.rings = (ReplayRing(ring_events, ring_bytes), ReplayRing(ring_events, ring_bytes))
        self.transcript = Transcript()
        self.awaited: dict[str, float] = {}
        self.gathered: tuple[list[Numbered], list[Numbered]] = ([], [])
        self.untaken = False
        self._committer = committer
        self._pack = pack
        self._clock = clock
        self._on_commit = on_commit
        self._on_number = on_number
        self._on_stir = on_stir
        self._meters = meters
        self._stretches = stretches
        self._restored = [0, 0]
        self._taken_to = 0  # both positions together, when the log last took what was numbered
        committer.bind(self)

    @property
    def issued(self) -> list[int]:
        """Events numbered here, of each stream."""
        return [ring.head - before for ring, before in zip(self.rings, self._restored, strict=True)]

    def restore(self, stream: int, tail: Sequence[Numbered], head: tuple[int, int]) -> None:
        """Rebuild one ring from the tail of its log; `head` = (last seq, position after it)."""
        self.rings[stream].restore(tail, head=head[0], head_position=head[1])
        self._restored[stream] = self.rings[stream].head
        self._taken_to += head[1]

    def number(self, env: Envelope, stream: int) -> None:
        """Give an event its number. O(1)."""
        gathered = self.gathered
        if not gathered[URGENT] and not gathered[DATA]:
            self._stir()
        self.untaken = True
        gathered[stream].append(self.rings[stream].append(env))
        if env[9] and self._stretches is not None:
            self._stretches.added()

    def add(self, rows: Sequence[Numbered]) -> None:
        """As `number` on the data stream: events as its ring has just numbered them, at least one, none of them
        traced. O(events).
        """
        urgent, data = self.gathered
        if not data:
            if not urgent:
                self._stir()
            self.untaken = True
        data += rows
        self.rings[DATA].extend(rows)

    def let_go(self) -> None:
        """Nothing comes any more: what is kept goes, and whom it would tell."""
        for ring in self.rings:
            ring.release(ring.head + 1)
        self.transcript.clear()
        self._on_commit = self._on_number = self._on_stir = nobody

    def _stir(self) -> None:
        """There is something to write, which nothing was before."""
        self._committer.stir()
        if self._committer.keeps:
            self._on_stir()

    # -- for the committer ----------------------------------------------------------------------

    @property
    def waiting_bytes(self) -> int:
        """What was numbered since it last asked."""
        return self.rings[URGENT].head_position + self.rings[DATA].head_position - self._taken_to

    def take(self) -> list[Run]:
        """Hand that out, once."""
        gathered, self.gathered = self.gathered, ([], [])
        self._taken_to += self.waiting_bytes
        runs = [Run(stream, rows, self._pack) for stream, rows in enumerate(gathered) if rows]
        for run in runs:
            self._on_number([row[2] for row in run.rows])
        return runs

    def written(self, run: Run) -> None:
        """Release a run to links; folded only now, so that a snapshot ends where sending starts."""
        rows, stretches = run.rows, self._stretches
        if not FOLDED.isdisjoint([row[2][2] for row in rows]):
            self._fold(rows)
        if stretches is not None and (traced := [row[2] for row in rows if row[2][9]]):
            stretches.committed(traced)
        self.rings[run.stream].commit(rows[-1][0])
        self._on_commit()

    def _fold(self, rows: Sequence[Numbered]) -> None:
        fold, awaited = self.transcript.fold, self.awaited
        for _, _, env in rows:
            if env[2] in FOLDED:
                fold(env)
                if awaited and env[2] == _TEXT and (accepted := awaited.pop(env[RUN], None)) is not None:
                    self._meters.first_text(self._clock.now() - accepted)
