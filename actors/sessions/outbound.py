"""The outbound half of a session: coalesce, number, commit, release to links; pause producers.

Law of this file: an event is numbered once, in the order in which its producer emitted it, and
no link may send it before the store has it. Producers wait here, not in queues: `emit` returns
only when some live link has credit (or, with no live link, while the unacked log budget lasts), or
when its run is one that does not pause (`routing/unread.py`): that one waits for the store alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from laneway.actors.alarm import nobody
from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Clock
from laneway.actors.sessions.committer import Committer
from laneway.actors.sessions.spool import DATA, URGENT, Spool
from laneway.actors.sessions.standing import standing_after
from laneway.actors.sessions.stretches import Stretches
from laneway.actors.sessions.waiting import WaitingLine
from laneway.routing.classify import KindTable
from laneway.routing.coalescer import Coalescer
from laneway.routing.envelope import KIND, LANE, RUN, TRACE, Envelope
from laneway.routing.errors import LanewayError, Paused, SlowConsumer
from laneway.routing.flush import stretched_s
from laneway.routing.replay import Numbered
from laneway.routing.shedding import Shedding
from laneway.routing.thinning import Thinner
from laneway.routing.unread import UnreadRuns

__all__ = ["DATA", "RUN_ENDS", "URGENT", "Outbound"]

RUN_ENDS: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})
"""Kinds after which nothing of a run follows."""
_NEAR_S: Final = 0.010
"""Deltas closer than this gather: it is how long a link gathers, unless told otherwise."""
_WAIT_MOST_S: Final = 0.020
"""They gather as long as that while the loop is late: fewer, larger events leave more of it for the models."""
_LATE_FACTOR: Final = 8
_MANY: Final = 4
"""Fewer events than these cost less one by one."""
_UNWRITTEN_BYTES: Final = 262_144
"""What nobody reads is not in a hurry: with so much on its way to the store it waits for that."""


class Outbound:
    """Both numbered streams of one session.

    Args:
        committer: writes the session's log.
        pack: envelope -> bytes for the log.
        clock: monotonic time.
        stall_s: how long a producer waits for a session that nobody reads, before it is given up.
        budget_bytes: how far an unread session runs ahead of its last ack with no live link.
        spill_bytes: how far a run does that goes on unread; see `UnreadRuns`.
        on_commit: called when links may have something new to send. on_stir: just before, see `Spool`.
        on_number: told of the events that got a number, before they are written.
        on_end: told of each run whose end got a number.
        stretches: told of sampled events, if they are traced.
        shedding: the level of overload: what is left out, and how long text gathers. kinds: what may be left out.

    Attributes:
        awaited: run -> when it was accepted, for runs that have not said anything yet; the owner's to
            fill and to clear.
        unread: the runs that do not pause; their handlers' to set and to clear.
    """

    __slots__ = (
        *("acked_position", "awaited", "rings", "transcript", "unread"),
        *("_budget_bytes", "_clock", "_coalescer", "_committer", "_data", "_due_at", "_error"),
        *("_granted", "_late_s", "_line", "_omitted", "_on_end", "_reach", "_shaped", "_shedding", "_spilled_to"),
        *("_spool", "_stall_s", "_stretches", "_thinner", "_timer", "_waiters"),
    )  # more attributes than a shared dict holds: 1.3 KB less for each session

    def __init__(
        self,
        committer: Committer,
        pack: Callable[[Envelope], bytes],
        clock: Clock,
        *,
        ring_events: int,
        ring_bytes: int,
        budget_bytes: int,
        stall_s: float,
        on_commit: Callable[[], None],
        spill_bytes: int = 0,
        on_number: Callable[[Sequence[Envelope]], None] = lambda envs: None,
        on_end: Callable[[str], None] = lambda run: None,
        meters: SessionMeters | None = None,
        stretches: Stretches | None = None,
        shedding: Shedding | None = None,
        kinds: KindTable | None = None,
        on_stir: Callable[[], None] = lambda: None,
    ) -> None:
        meters = meters or SessionMeters()
        self._spool = spool = Spool(
            committer,
            pack,
            clock,
            ring_events=ring_events,
            ring_bytes=ring_bytes,
            on_commit=on_commit,
            on_number=on_number,
            meters=meters,
            stretches=stretches,
            on_stir=on_stir,
        )
        self.rings, self.transcript, self.awaited = spool.rings, spool.transcript, spool.awaited
        self.acked_position = 0
        self.unread = UnreadRuns(budget_bytes, spill_bytes)
        self._spilled_to = 0
        self._committer = committer
        self._clock = clock
        self._budget_bytes = budget_bytes
        self._stall_s = stall_s
        self._on_end = on_end
        self._stretches = stretches
        self._shedding = shedding or Shedding()
        self._thinner = Thinner(self._shedding, kinds or KindTable(), meters.dropped)
        self._omitted = self._thinner.omitted
        self._coalescer = Coalescer(near_s=_NEAR_S)
        self._shaped = self._coalescer.shaped
        self._data = self.rings[DATA]
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._late_s = 0.0  # how late the loop calls that timer, of late
        self._granted: Callable[[], int | None] = lambda: None
        self._reach = 0
        self._line = WaitingLine()
        self._waiters = self._line.places  # one list, looked at for every event
        self._error: LanewayError | None = None

    def bind_grants(self, granted: Callable[[], int | None]) -> None:
        """Tell where the furthest grant of the live links is asked (None = no live link)."""
        self._granted = granted

    def taken(self, acked_position: int) -> None:
        """A link has sent something, or its acks or grants moved: `acked_position` is its furthest ack."""
        self._spool.untaken = False
        self.acked(acked_position)
        if self._waiters:
            self.wake_producers()

    def acked(self, position: int) -> None:
        """A link's client has what is before this position of the data stream."""
        if position > self.acked_position:
            self.acked_position = position

    def forget_grants(self) -> None:
        """A link is over: how far producers may run is asked anew."""
        self._reach = 0

    async def emit(self, env: Envelope) -> None:
        """Take one event in; waits while producers are paused.

        Raises the error that ended the session, SlowConsumer if it stays unread for `stall_s`, or Paused
        if that is to end its run.
        """
        if self.emit_now(env):
            return
        await self._room(env)
        if self._error is not None:
            raise self._error
        self._accept(env)
        if self._waiters:
            self.wake_producers()

    async def emit_all(self, envs: Sequence[Envelope]) -> None:
        """Take events in, in order; waits before each for which there is no room, as `emit` does."""
        for env in envs[self.emit_ready(envs) :]:
            if not self.emit_now(env):
                await self.emit(env)

    def emit_ready(self, envs: Sequence[Envelope]) -> int:
        """Take the first of these events, up to one that `emit` would wait for or refuse; returns how many.

        What that comes to is decided once for all of them, where nothing about any of them is special: 0.3 us each.
        """
        if len(envs) >= _MANY and (rows := self._plain(envs)) is not None:
            self._spool.add(rows)
            return len(envs)
        for place, env in enumerate(envs):
            if not self.emit_now(env):
                return place
        return len(envs)

    def _plain(self, envs: Sequence[Envelope]) -> list[Numbered] | None:
        """Return what is to be added if `emit_now` would only number each of these events, two at least; else None."""
        coalescer, shaped = self._coalescer, self._shaped
        if self._waiters or coalescer.bytes or self._error is not None or self._shedding.level or self._omitted:
            return None
        for env in envs:
            if not env[7] or env[9] or env[2] in shaped:
                return None
        rows = self._data.numbered(envs)
        last = rows[-2][1]  # where the last one begins
        return rows if last < self._reach or self._writable(last - self._data.head_position) else None

    def emit_now(self, env: Envelope) -> bool:
        """Take one event in, if `emit` would neither wait for it nor refuse it; else False, and nothing is done."""
        coalescer, ring, data = self._coalescer, self._data, self._spool.gathered[DATA]
        if self._error is not None:
            return False
        if (self._shedding.level or self._omitted) and not self._thinner.passes(env):
            return True
        if not env[7]:
            self.emit_urgent(env)
            return True
        if self._waiters or (ring.head_position + coalescer.bytes >= self._reach and not self._writable()):
            return False
        if coalescer.bytes or env[2] in self._shaped or env[9] or not data:
            self._accept(env)
        else:  # what that comes to for all but the first event of a turn
            data.append(ring.append(env))
        return True

    def _accept(self, env: Envelope) -> None:
        """Number an event of the data stream, or let it gather."""
        coalescer = self._coalescer
        if not coalescer.bytes and env[2] not in self._shaped:
            self._spool.number(env, DATA)
            return
        for each in coalescer.offer(env, self._clock.now(), crowded=self._spool.untaken or self._shedding.level > 0):
            self._spool.number(each, DATA)
        if env[2] in RUN_ENDS:
            self._on_end(env[5])
        if coalescer.bytes:
            self._limit()
            if self._timer is None:
                self._arm()

    def gathering(self, run: str, kind: str, entity: str) -> Callable[[bytes], bool] | None:
        """Return what adds text deltas of `run` to what waits for company anyway; see `Coalescer.gathering`."""
        return None if self._waiters or self._error is not None else self._coalescer.gathering(run, kind, entity)

    def _limit(self) -> None:
        """What waits grows no further than the credit that was last seen."""
        reach = self._reach or self.acked_position + self._budget_bytes
        self._coalescer.room_bytes = reach - self._data.head_position

    def emit_urgent(self, env: Envelope) -> None:
        """Take one critical event in at once; RUN_ERROR is told the data seq it stands after."""
        if self._error is not None:
            raise self._error
        self.flush()
        self._spool.number(standing_after(env, self.rings[DATA].head), URGENT)
        if env[KIND] in RUN_ENDS:
            self._on_end(env[RUN])

    def emit_last(self, env: Envelope) -> None:
        """Number the end of a run that nobody reads: behind what it said, without credit."""
        if self._error is not None:
            raise self._error
        self.flush()
        self._spool.number(env, DATA)
        if env[KIND] in RUN_ENDS:
            self._on_end(env[RUN])

    def wake_producers(self) -> None:
        """Let the next waiting producer go on, most urgent lane first, if there is room."""
        while self._waiters and (self._error is not None or self._writable()):
            if self._line.call_next():
                return

    def flush(self) -> None:
        """Number what the coalescer still holds."""
        for env in self._coalescer.flush():
            self._spool.number(env, DATA)

    def fail(self, error: LanewayError) -> None:
        """End the outbound half: every waiting and later emit raises `error`."""
        self._error = error
        self._coalescer.room_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
        self._line.dismiss()

    def let_go(self) -> None:
        """It failed and nobody asks any more: what it kept goes, and whom it would ask or tell."""
        self._spool.let_go()
        self._granted = self._on_end = nobody

    def restore(self, stream: int, tail: Sequence[Numbered], head: tuple[int, int]) -> None:
        """Rebuild one ring from the tail of its log; `head` = (last seq, position after it)."""
        self._spool.restore(stream, tail, head)
        if stream == DATA:
            self.acked_position = head[1]

    @property
    def error(self) -> LanewayError | None:
        """What ended the outbound half, or None."""
        return self._error

    @property
    def issued(self) -> list[int]:
        """Events numbered here, of each stream."""
        return self._spool.issued

    @property
    def paused(self) -> int:
        """Producers waiting for credit."""
        return len(self._waiters)

    @property
    def spilled(self) -> bool:
        """True while the log holds what was said beyond all credit, and nobody has it yet."""
        return self.acked_position < self._spilled_to

    def _writable(self, more_bytes: int = 0) -> bool:
        """Return whether an event that begins here, or so much further on, need not wait."""
        position = self._data.head_position + self._coalescer.bytes + more_bytes
        if position < self._reach:  # grants are never lowered
            return True
        granted = self._granted()
        if granted is not None:
            self._reach = granted
            return position < granted
        return position - self.acked_position < self._budget_bytes

    async def _room(self, env: Envelope) -> None:
        if self._error is not None or (len(self.unread) and await self._beyond(env)):
            return
        asked_at = self._clock.now()
        try:
            async with asyncio.timeout(self._stall_s):
                await self._line.stand(env[LANE])
            if env[TRACE] and self._stretches is not None:
                self._stretches.paused(env, self._clock.now() - asked_at)
        except TimeoutError:
            self.wake_producers()  # a turn that was ours already goes to the next
            raise SlowConsumer(
                f"nobody has read this session for {self._stall_s:g} s, and its log budget is full; "
                "read on and start the run again",
                reason="UNREAD",
            ) from None
        except asyncio.CancelledError:
            self.wake_producers()
            raise

    async def _beyond(self, env: Envelope) -> bool:
        """Return whether a run that nobody reads goes on. Raises Paused if it is to end here."""
        policy = self.unread.of(env[RUN])
        if policy == "pause":
            return False
        position = self.rings[DATA].head_position + self._coalescer.bytes
        if position >= self.unread.limit(policy, self._granted(), self.acked_position):
            if policy == "continue":
                return False
            raise Paused(
                "nobody has read this run and the session's budget is full, so its model was let go; "
                "read on, and go on with a new run whose parentRunId is this one's",
                reason="UNREAD",
            )
        if self._committer.backlog_bytes > _UNWRITTEN_BYTES:
            with contextlib.suppress(TimeoutError):  # a store that is away: it waits as others do, then goes on
                async with asyncio.timeout(self._stall_s):
                    await self._committer.flush()
        self._spilled_to = position + 1
        return True

    def _arm(self) -> None:
        """Keep one timer for the coalescer's next deadline."""
        deadline = self._coalescer.deadline()
        if deadline is None or self._timer is not None:
            return
        self._due_at = deadline
        delay = max(0.0, deadline - self._clock.now())
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._error is None:
            now = self._clock.now()
            self._late_s += (now - self._due_at - self._late_s) / 4
            wait_s = min(_WAIT_MOST_S, _NEAR_S + max(0.0, self._late_s) * _LATE_FACTOR)
            self._coalescer.wait_s = stretched_s(wait_s, self._shedding.level)
            for env in self._coalescer.poll(now):
                self._spool.number(env, DATA)
            self._limit()
            self._arm()
