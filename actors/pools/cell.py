"""A cell: one mailbox and the workers that empty it, most urgent event first.

Law of this file: every event delivered is answered through `on_done` exactly once, on every path:
handled, failed, expired, cancelled (queued or running), abandoned, quarantined, closed.

* Workers are tasks made on demand, `concurrency` of them, plus one that takes only critical events,
  so that an interrupt never waits for a slow handler.
* Cancel comes from outside the mailbox and does not wait for the handler. A worker whose handler was
  stopped is spent: it ends with that turn and a fresh one replaces it, so no stray cancellation can
  reach the next event.
* A handler that has ignored its cancel for `grace_s` is abandoned: answered for, silenced, its slot
  replaced up to a limit. Python cannot kill a task; what must be killable belongs in a process.
* One timer per cell watches deadlines and graces; a handler that ends in time costs none.
* More than 5 crashed workers in 60 s quarantine the cell for 60 s (Erlang's restart intensity).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from laneway.actors.alarm import Alarm
from laneway.actors.endings import cancelled, drained, expired, quarantined, stopped_late
from laneway.actors.meters import MUTE, by_lane
from laneway.actors.pools.batch import BatchTurn
from laneway.actors.pools.crashes import CrashLog
from laneway.actors.pools.gauges import CellStatistics
from laneway.actors.pools.mailbox import Mailbox, critical_room, ordinary_room
from laneway.actors.pools.pace import OFTEN, Pace
from laneway.actors.pools.turn import Answer, Begin, MakeContext, SerialTurn
from laneway.actors.pools.worker import Worker, settled
from laneway.actors.ports import Clock, Outcome, Probe
from laneway.actors.spans import Span
from laneway.routing.envelope import DEADLINE, NO_DEADLINE, Envelope
from laneway.routing.errors import LocalProtocolError

__all__ = ["Cell", "Match"]

Match = Callable[[Envelope], bool]
"""Says whether a cancel is meant for this event. Must not raise."""

_GRACE_S: Final = 5.0
_DEADLINE_SLACK_S: Final = 0.05
"""A handler that watches its own deadline gets this long to end in its own words first."""
_BATCH_LIMIT: Final = 64
"""Events in one call of a batch handler: where the measured cost per event stops falling."""
_MOST_READY: Final = 1024
"""Events that wait in a cell at most, however brief its handlers: a quarter of a millisecond of its pump."""
_MAX_CRASHES: Final = 5
_CRASH_WINDOW_S: Final = 60.0


class Cell:
    """One actor instance with its mailbox. Lives on one event loop; nothing here is thread-safe.

    Args:
        handler: see `ports.Handler`; with `batch`, a `batch.BatchHandler`.
        concurrency: handlers at once, at least 1; one more for critical events only.
        make_context: makes the context a handler gets beside the event.
        on_done: told how each event ended, exactly once; must not raise.
        grace_s: seconds between a cancel and the abandonment of a handler that ignores it.
        batch: give the handler lists, up to 64 events of one cell at once.
        max_abandoned: abandoned handlers whose slots are replaced; default `concurrency`.
        on_change: called when `open` may have changed: quarantined, released, a slot lost or back.
        begin: begins the span of a turn of the cell of this name; see `turn.Begin`.
        room: (ordinary, critical) events that may wait; default: as many as keep it busy.
        probe: counters `cell.abandoned`, `cell.crashed`, `cell.quarantined`; histogram `queue.wait` per lane.
    """

    def __init__(
        self,
        name: str,
        handler: Callable[..., Any],
        *,
        concurrency: int,
        clock: Clock,
        make_context: MakeContext,
        on_done: Answer,
        grace_s: float = _GRACE_S,
        batch: bool = False,
        max_abandoned: int | None = None,
        on_change: Callable[[], None] | None = None,
        begin: Callable[[str, Sequence[Envelope]], Span] | None = None,
        room: tuple[int, int] | None = None,
        probe: Probe | None = None,
    ) -> None:
        if concurrency < 1:
            raise LocalProtocolError(f"cell {name!r} needs a concurrency of at least 1, not {concurrency}")
        self.name = name
        self._handler = handler
        self._concurrency = concurrency
        self._clock = clock
        self._now = clock.now
        self._make_context = make_context
        self._on_done = on_done
        self._grace_s = grace_s
        self._batch = batch
        self._max_abandoned = concurrency if max_abandoned is None else max_abandoned
        self._on_change = on_change
        self._begin: Begin | None = partial(begin, name) if begin is not None else None
        self._probe = probe or MUTE
        batches = _BATCH_LIMIT if batch else 1
        ordinary, critical = room or (ordinary_room(concurrency, batches), critical_room(concurrency))
        self._mailbox = Mailbox(ordinary, critical, lambda env: on_done(env, expired()), by_lane(probe, "queue.wait"))
        self._pace = Pace(concurrency, ordinary, _MOST_READY if room is None else ordinary)
        self._workers: dict[Worker, None] = {}
        self._reserved: Worker | None = None
        self._idle: list[Worker] = []
        self._reserved_idle = False
        self._summoned: Worker | None = None
        self._abandoned: dict[Worker, None] = {}
        self._abandoned_total = 0
        self._crashes = CrashLog(_MAX_CRASHES, _CRASH_WINDOW_S)
        self._quarantined = False
        self._reopen: asyncio.TimerHandle | None = None
        self._alarm = Alarm(clock, self._look)
        self._running = 0
        self._closing = False

    # -- what the pool asks ---------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """True if events may be delivered: not closing, not quarantined, a slot left."""
        return not (self._closing or self._quarantined or (self._abandoned and self._slots() <= 0))

    @property
    def load(self) -> int:
        """Events waiting and running."""
        return len(self._mailbox) + self._running

    def free(self, critical: bool = False) -> int:
        """How many events may be delivered now: ordinary ones, or critical ones. O(1)."""
        if not self.open:
            return 0
        box = self._mailbox
        box.capacity = self._pace.capacity
        return box.free(True) if critical else self._pace.room(box.free(), self._slots() - self._running, box.ordinary)

    def deliver(self, *envs: Envelope) -> None:
        """Queue events, at least one, for the workers. Raises LocalProtocolError beyond `free`, taking none.

        Those delivered to a cell that has closed or quarantined itself since are answered at once.
        """
        if self._closing or self._quarantined:
            outcome = drained() if self._closing else quarantined(self.name)
            for env in envs:
                self._on_done(env, outcome)
        else:
            self._mailbox.push(*envs)
            if self._summoned is None:
                self._summon()

    def cancel(self, match: Match, reason: str = "") -> int:
        """End queued and running events that match; returns how many. Does not wait for handlers."""
        return self._end(match, cancelled(reason), asked=True)

    def statistics(self) -> CellStatistics:
        """Return the cell's gauges and counters."""
        return CellStatistics(
            name=self.name,
            waiting=self._mailbox.depths(),
            running=self._running,
            workers=len(self._workers),
            abandoned=len(self._abandoned),
            abandoned_total=self._abandoned_total,
            crashes=self._crashes.total,
            quarantined=self._quarantined,
        )

    async def close(self, deadline: float) -> None:
        """Answer what waits with DRAINED, let handlers run until `deadline` (monotonic), then stop them.

        Returns at the latest `grace_s` after the deadline, with everything answered. Idempotent.
        """
        self._closing = True
        for env in self._mailbox.clear():
            self._on_done(env, drained())
        for worker in list(self._workers):
            worker.retired = True  # it ends with its turn, or now if it rests
            worker.rouse()
        await settled(self._workers, deadline - self._now())
        self._end(lambda _: True, drained(), asked=False)
        await settled(self._workers, self._grace_s)
        for worker in list(self._workers):
            if worker.turn is not None:
                self._abandon(worker)
        self._alarm.cancel()
        if self._reopen is not None:
            self._reopen.cancel()

    def _slots(self) -> int:
        return self._concurrency - max(0, len(self._abandoned) - self._max_abandoned)

    def _summon(self, by: Worker | None = None, most: int = 1) -> None:
        """See that a worker is on its way if something waits that one may take.

        One at a time: the summoned worker summons the next, so a burst that a single worker can empty without
        ever suspending wakes one task and not all of them. Where handlers wait, all that are needed are called
        at once (`Worker.finds_waiting`): else each would start a turn of the loop later than the one before.
        """
        if self._summoned is None and not self._closing:
            while most > 0 and self._mailbox.waiting and (worker := self._free()) is not None:
                self._summoned, worker.caller, most = worker, by, most - 1
                worker.rouse()

    def _free(self) -> Worker | None:
        """Take a worker for what waits out of those that rest, or make one; None if there may be no more."""
        if self._idle:
            return self._idle.pop()
        if len(self._workers) - (self._reserved is not None) < self._slots():
            return self._spawn(critical=False)
        if self._mailbox.critical:
            if self._reserved is None:
                return self._spawn(critical=True) if len(self._abandoned) <= self._max_abandoned else None
            if self._reserved_idle:
                self._reserved_idle = False
                return self._reserved
        return None

    def _spawn(self, critical: bool) -> Worker:
        worker = Worker(critical)
        self._workers[worker] = None
        if critical:
            self._reserved = worker
        name, loop = f"{self.name} {'critical ' if critical else ''}worker", asyncio.get_running_loop()
        worker.task = loop.create_task(self._work(worker), name=name)
        worker.task.add_done_callback(lambda task: self._gone(worker, task))
        return worker

    async def _work(self, worker: Worker) -> None:
        """Take and run turns until retired; the cell holds the task and `close` awaits it."""
        serial = SerialTurn(self._handler, self._make_context, self._on_done, self._begin)
        take = partial(self._next, worker, serial)
        while not worker.retired:
            try:
                await (self._run_batch(worker) if self._batch else serial.run(take))
            except asyncio.CancelledError:
                if worker.asked_to_end():
                    raise
                continue  # the handler cancelled something of its own and let it out: answered as such
            finally:
                self._leave(worker)
            if not worker.retired:
                await self._rest(worker)

    def _next(self, worker: Worker, turn: SerialTurn) -> Envelope | None:
        """Take the event that a worker handles next, or None if there is none for it."""
        if worker.retired:
            return None
        if self._summoned is worker:
            self._summoned = None
        many = worker.caller is not None and worker.finds_waiting()
        now, pace = self._now(), self._pace
        if worker.turn is not None:
            if pace.brief and now - worker.since <= pace.brief_s and worker.taken < OFTEN:
                worker.taken += 1  # as `ended` does, for nearly all events
            else:
                pace.ended(worker, now)
        worker.since = now
        env = self._mailbox.pop(now, worker.critical)
        if self._mailbox.waiting and self._summoned is None:
            self._summon(worker, self._mailbox.waiting if many else 1)  # also if this one may take none of it
        if env is None:
            pace.ran(worker, now)
        else:
            if worker.turn is None:
                worker.turn, worker.began = turn, now
                self._running += 1
            if env[8] != NO_DEADLINE:
                self._alarm.set(env[8] + _DEADLINE_SLACK_S)
        return env

    async def _run_batch(self, worker: Worker) -> None:
        """Hand one batch after the other to the handler, until nothing waits."""
        while not worker.retired and (envs := self._next_batch(worker)):
            worker.turn = turn = BatchTurn(envs, self._handler, self._make_context, self._on_done, self._begin)
            self._running += turn.size
            self._alarm.set(turn.deadline() + _DEADLINE_SLACK_S)
            worker.began, worker.taken = self._now(), turn.size
            try:
                await turn.run()
            finally:
                self._leave(worker)
            self._pace.ran(worker, self._now())

    def _next_batch(self, worker: Worker) -> list[Envelope]:
        if self._summoned is worker:
            self._summoned = None
        envs = self._mailbox.pop_batch(self._now(), _BATCH_LIMIT, worker.critical)
        if self._summoned is None:
            self._summon()
        return envs

    def _leave(self, worker: Worker) -> None:
        """A worker has nothing in its handler."""
        if worker.turn is not None:
            self._running -= worker.turn.size
            worker.turn = None

    async def _rest(self, worker: Worker) -> None:
        worker.wake = asyncio.get_running_loop().create_future()
        if worker.critical:
            self._reserved_idle = True
        else:
            self._idle.append(worker)
        await worker.wake

    def _gone(self, worker: Worker, task: asyncio.Task[None]) -> None:
        """A worker's task is over: forget it, count a crash, and see that its work goes on."""
        self._workers.pop(worker, None)
        self._abandoned.pop(worker, None)
        if worker in self._idle:
            self._idle.remove(worker)
        if self._summoned is worker:
            self._summoned = None
        if self._reserved is worker:
            self._reserved, self._reserved_idle = None, False
        if task.cancelled():
            if not worker.retired:  # by nobody here: the event loop is being torn down
                self._closing = True
                for env in self._mailbox.clear():
                    self._on_done(env, drained())
        elif task.exception() is not None:
            self._crashed()
        self._summon()
        if worker.retired:
            self._changed()

    # -- stopping -------------------------------------------------------------------------------

    def _end(self, match: Match, outcome: Outcome, *, asked: bool) -> int:
        waiting = self._mailbox.remove(match)
        for env in waiting:
            self._on_done(env, outcome)
        return len(waiting) + sum(self._stop(worker, match, outcome, asked=asked) for worker in list(self._workers))

    def _stop(self, worker: Worker, match: Match, outcome: Outcome, *, asked: bool) -> int:
        if worker.turn is None or worker.task is None:
            return 0
        hits, whole = worker.turn.stop(match, outcome, asked=asked)
        if whole:
            worker.retired = True
            worker.give_up_at = self._clock.now() + self._grace_s
            worker.task.cancel()
            self._alarm.set(worker.give_up_at)
        return hits

    def _look(self) -> None:
        """Stop what is past its deadline, abandon what is past its grace, plan the next look."""
        now = self._clock.now()
        for worker in list(self._workers):
            if worker.give_up_at <= now:
                self._abandon(worker)
            elif worker.turn is not None and worker.turn.deadline() + _DEADLINE_SLACK_S <= now:
                self._stop(worker, lambda env: env[DEADLINE] + _DEADLINE_SLACK_S <= now, stopped_late(), asked=False)
        for worker in self._workers:
            if worker.turn is not None:
                self._alarm.set(min(worker.give_up_at, worker.turn.deadline() + _DEADLINE_SLACK_S))

    def _abandon(self, worker: Worker) -> None:
        """Give a slot up: answer for it, silence it, and let another worker take its place."""
        turn, worker.turn = worker.turn, None
        del self._workers[worker]
        if self._reserved is worker:
            self._reserved, self._reserved_idle = None, False
        self._abandoned[worker] = None
        self._abandoned_total += 1
        self._probe.count("cell.abandoned", cell=self.name)
        worker.retired, worker.give_up_at = True, NO_DEADLINE
        if turn is not None:
            self._running -= turn.size
            turn.abandon()
        self._summon()
        self._changed()

    def _crashed(self) -> None:
        """A worker died of its handler: count it, and rest if that happens too often."""
        self._probe.count("cell.crashed", cell=self.name)
        if not self._crashes.add(self._clock.now()) or self._quarantined or self._closing:
            return
        self._quarantined = True
        self._probe.count("cell.quarantined", cell=self.name)
        for env in self._mailbox.clear():
            self._on_done(env, quarantined(self.name))
        self._changed()
        self._reopen = asyncio.get_running_loop().call_later(_CRASH_WINDOW_S, self._release)

    def _release(self) -> None:
        self._reopen, self._quarantined = None, False
        self._crashes.forgive()
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None and not self._closing:
            self._on_change()
