"""The outbound half of a session: coalesce, number, commit, release to links; pause producers.

Law of this file: an event is numbered once, in the order in which its producer emitted it, and
no link may send it before the store has it. Producers wait here, not in queues: `emit` returns
only when some live link has credit (or, with no live link, while the unacked log budget lasts), or
when its run is one that does not pause (`routing/unread.py`): that one waits for the store alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from laneway.actors.committer import Committer
from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Clock, Entry, Out
from laneway.actors.stretches import Stretches
from laneway.actors.transcript import Transcript
from laneway.routing.coalescer import Coalescer
from laneway.routing.envelope import BODY, KIND, LANE, RUN, TRACE, Envelope, with_body
from laneway.routing.errors import LanewayError, Paused, SlowConsumer
from laneway.routing.lanes import Lane
from laneway.routing.replay import Numbered, ReplayRing
from laneway.routing.unread import UnreadRuns

__all__ = ["DATA", "URGENT", "Outbound"]

URGENT: Final = 0
"""Stream of the critical lane."""
DATA: Final = 1
"""Stream of everything else."""
_TEXT: Final = "TEXT_MESSAGE_CONTENT"
_NEAR_S: Final = 0.010
"""Deltas closer than this gather: it is how long a link gathers, unless told otherwise."""
_WAIT_MOST_S: Final = 0.020
"""They gather as long as that while the loop is late: fewer, larger events leave more of it for the models."""
_LATE_FACTOR: Final = 8
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
        on_commit: called when links may have something new to send.
        on_number: told of every event that gets a number.
        stretches: told of sampled events, if they are traced.

    Attributes:
        awaited: run -> when it was accepted, for runs that have not said anything yet; the owner's to
            fill and to clear.
        unread: the runs that do not pause; their handlers' to set and to clear.
    """

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
        on_number: Callable[[Envelope], None] = lambda env: None,
        meters: SessionMeters | None = None,
        stretches: Stretches | None = None,
    ) -> None:
        self.rings = (ReplayRing(ring_events, ring_bytes), ReplayRing(ring_events, ring_bytes))
        self.transcript = Transcript()
        self.issued = [0, 0]
        self.awaited: dict[str, float] = {}
        self.acked_position = 0
        self.unread = UnreadRuns(budget_bytes, spill_bytes)
        self._spilled_to = 0
        self._committer = committer
        self._pack = pack
        self._clock = clock
        self._budget_bytes = budget_bytes
        self._stall_s = stall_s
        self._on_commit = on_commit
        self._on_number = on_number
        self._meters = meters or SessionMeters()
        self._stretches = stretches
        self._coalescer = Coalescer(near_s=_NEAR_S)
        self._unwritten: deque[tuple[int, int, Envelope]] = deque()
        self._untaken = False  # no link has taken anything since the last number
        self._on_written = self._written  # one object, by which the committer knows what goes together
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._late_s = 0.0  # how late the loop calls that timer, of late
        self._granted: Callable[[], int | None] = lambda: None
        self._reach = 0
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0
        self._error: LanewayError | None = None

    def bind_grants(self, granted: Callable[[], int | None]) -> None:
        """Tell where the furthest grant of the live links is asked (None = no live link)."""
        self._granted = granted

    def taken(self, acked_position: int) -> None:
        """A link has sent something, or its acks or grants moved: `acked_position` is the furthest ack."""
        self._untaken = False
        self.acked_position = max(self.acked_position, acked_position)
        if self._waiters:
            self.wake_producers()

    def forget_grants(self) -> None:
        """A link is over: how far producers may run is asked anew."""
        self._reach = 0

    async def emit(self, env: Envelope) -> None:
        """Take one event in; waits while producers are paused.

        Raises the error that ended the session, SlowConsumer if it stays unread for `stall_s`, or Paused
        if that is to end its run.
        """
        if env[LANE] == Lane.CRITICAL:
            self.emit_urgent(env)
            return
        if self._waiters or not self._writable():
            await self._room(env)
        if self._error is not None:
            raise self._error
        self._number(self._coalescer.offer(env, self._clock.now(), crowded=self._untaken))
        if self._timer is None and self._coalescer.bytes:
            self._arm()
        if self._waiters:
            self.wake_producers()

    async def emit_all(self, envs: Sequence[Envelope]) -> None:
        """Take events in, in order; waits before each for which there is no room, as `emit` does."""
        taken = self.emit_ready(envs)
        while taken < len(envs):
            await self.emit(envs[taken])
            taken += 1
            taken += self.emit_ready(envs[taken:])

    def emit_ready(self, envs: Sequence[Envelope]) -> int:
        """Take the first of these events, up to one that `emit` would wait for or refuse; returns how many."""
        for place, env in enumerate(envs):
            if self._waiters or self._error is not None:
                return place
            if env[LANE] == Lane.CRITICAL:
                self.emit_urgent(env)
                continue
            if not self._writable():
                return place
            self._number(self._coalescer.offer(env, self._clock.now(), crowded=self._untaken))
            if self._timer is None and self._coalescer.bytes:
                self._arm()
        return len(envs)

    def extend(self, out: Out, run: str) -> bool:
        """Add a text delta of `run` to what waits for company anyway; False if it must be emitted.

        About 0.8 us: it takes no number, no record and no turn of anybody else.
        """
        if self._waiters or self._error is not None or not self._writable():
            return False
        return self._coalescer.extend(run, out.kind, out.entity, out.body, self._clock.now())

    def emit_urgent(self, env: Envelope) -> None:
        """Take one critical event in at once; RUN_ERROR is told the data seq it stands after."""
        if self._error is not None:
            raise self._error
        self._number(self._coalescer.flush())
        self._number([self._standing_after(env)])

    def emit_last(self, env: Envelope) -> None:
        """Number the end of a run that nobody reads: behind what it said, without credit."""
        if self._error is not None:
            raise self._error
        self._number(self._coalescer.flush())
        self._number([env])

    def wake_producers(self) -> None:
        """Let the next waiting producer go on, most urgent lane first, if there is room."""
        while self._waiters and (self._error is not None or self._writable()):
            waiter = heapq.heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(None)
                return

    def flush(self) -> None:
        """Number what the coalescer still holds."""
        self._number(self._coalescer.flush())

    def fail(self, error: LanewayError) -> None:
        """End the outbound half: every waiting and later emit raises `error`."""
        self._error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def restore(self, stream: int, tail: Sequence[Numbered], head: tuple[int, int]) -> None:
        """Rebuild one ring from the tail of its log; `head` = (last seq, position after it)."""
        self.rings[stream].restore(tail, head=head[0], head_position=head[1])
        if stream == DATA:
            self.acked_position = head[1]

    @property
    def error(self) -> LanewayError | None:
        """What ended the outbound half, or None."""
        return self._error

    @property
    def paused(self) -> int:
        """Producers waiting for credit."""
        return len(self._waiters)

    @property
    def spilled(self) -> bool:
        """True while the log holds what was said beyond all credit, and nobody has it yet."""
        return self.acked_position < self._spilled_to

    def _writable(self) -> bool:
        position = self.rings[DATA].head_position + self._coalescer.bytes
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
        self._arrivals += 1
        waiter = asyncio.get_running_loop().create_future()
        place = (env[LANE], self._arrivals, waiter)
        heapq.heappush(self._waiters, place)
        try:
            asked_at = self._clock.now()
            async with asyncio.timeout(self._stall_s):
                await waiter
            if env[TRACE] and self._stretches is not None:
                self._stretches.paused(env, self._clock.now() - asked_at)
        except TimeoutError:
            self._give_up(place)
            raise SlowConsumer(
                f"nobody has read this session for {self._stall_s:g} s, and its log budget is full; "
                "read on and start the run again",
                reason="UNREAD",
            ) from None
        except asyncio.CancelledError:
            self._give_up(place)
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

    def _give_up(self, place: tuple[int, int, asyncio.Future[None]]) -> None:
        """Leave the queue; a turn that was ours already goes to the next. O(waiters)."""
        if place in self._waiters:
            self._waiters.remove(place)
            heapq.heapify(self._waiters)
        self.wake_producers()

    def _standing_after(self, env: Envelope) -> Envelope:
        """Name in RUN_ERROR the data seq after which it stands; other urgent bodies are not ours to open."""
        if env[KIND] != "RUN_ERROR":
            return env
        body: dict[str, Any] = msgpack.unpackb(env[BODY]) if env[BODY] else {}
        body["after"] = self.rings[DATA].head
        return with_body(env, msgpack.packb(body))

    def _number(self, envs: Sequence[Envelope]) -> None:
        for env in envs:
            blob = self._pack(env)  # first: what cannot be packed must not take a number
            self._on_number(env)
            self._untaken = True
            stream = DATA if env[LANE] else URGENT
            seq, position = self.rings[stream].append(env)
            self.issued[stream] += 1
            self._unwritten.append((stream, seq, env))
            if env[TRACE] and self._stretches is not None:
                self._stretches.added()
            self._committer.gather(Entry(stream, seq, position, blob), self._on_written)

    def _written(self, count: int) -> None:
        """Release the next `count` events to links; folded only now, so that a snapshot ends where sending starts."""
        heads = [0, 0]
        traced: list[Envelope] = []
        for _ in range(count):
            stream, seq, env = self._unwritten.popleft()
            heads[stream] = seq
            self.transcript.fold(env)
            if self.awaited and env[KIND] == _TEXT:
                self._note_first_text(env)
            if env[TRACE]:
                traced.append(env)
        if traced and self._stretches is not None:
            self._stretches.committed(traced)
        for stream, head in enumerate(heads):
            if head:
                self.rings[stream].commit(head)
        self._on_commit()

    def _note_first_text(self, env: Envelope) -> None:
        if (accepted := self.awaited.pop(env[RUN], None)) is not None:
            self._meters.first_text(self._clock.now() - accepted)

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
            self._coalescer.wait_s = min(_WAIT_MOST_S, _NEAR_S + max(0.0, self._late_s) * _LATE_FACTOR)
            self._number(self._coalescer.poll(now))
            self._arm()
