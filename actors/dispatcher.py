"""The dispatcher: a thin loop around the pure DispatchCore, and the books of every accepted event.

Law of this file: each accepted event is over exactly once, and whoever waits for it is told:
accepted = handled + expired + cancelled + failed + dead + pending, at any moment. Refusals are
answered at the door and are not accepted.

What decides (lanes, quotas, fairness, placement) is in `routing/dispatch.py`; what waits for time or
I/O is here: asks, cancels that come early, the pumps, the shutdown.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Final

from laneway.actors.accounts import DispatcherStatistics, totals
from laneway.actors.alarm import Alarm
from laneway.actors.asks import Asks
from laneway.actors.books import Books, Key, OnDone, key_of
from laneway.actors.cancels import Cancel, RememberedCancels
from laneway.actors.context import ContextMaker, LateEmits, Surroundings
from laneway.actors.endings import cancelled, drained, expired, failed
from laneway.actors.journeys import Journeys, parts_in
from laneway.actors.losses import Losses
from laneway.actors.meters import by_lane
from laneway.actors.pool import Pool, PoolSpec
from laneway.actors.ports import Journal, Outcome, Probe
from laneway.actors.pump import Pump
from laneway.routing.dispatch import Admitted, DispatchCore, PoolRoute, Refused
from laneway.routing.envelope import ACCEPTED, ENTITY, KIND, LANE, RUN, SESSION, TENANT, TRACE, Envelope, envelope_id
from laneway.routing.errors import ConfigError, Draining, LanewayError, LocalProtocolError, PeerProtocolError
from laneway.routing.lanes import Lane

__all__ = ["Dispatcher"]

_DRAIN_RETRY_MS: Final = 1000


class Dispatcher:
    """Takes events in, sees them through their pools, and tells how each one ended.

    Lives on one event loop. Before `start` events are accepted and wait.

    Args:
        core: the decisions; nothing else may touch it.
        surroundings: what the contexts of handlers need (outlet, clock, kinds, ...).
        journal: told before ordinary events are given to a handler, so that a crash in it is counted.
        probe: counters `event.refused`, `handler.failed`, `dispatch.callback_failed` and the cells';
            histograms `event.time` per lane (acceptance to end) and the cells'.
    """

    def __init__(
        self,
        core: DispatchCore,
        surroundings: Surroundings,
        *,
        journal: Journal | None = None,
        probe: Probe | None = None,
    ) -> None:
        self._core = core
        self._surroundings = surroundings
        self._clock = surroundings.clock
        self._journal = journal
        self._probe = probe
        self._took = by_lane(probe, "event.time")
        self.number = partial(next, itertools.count(1))
        self._control = frozenset(kind.name for kind in surroundings.kinds if kind.control)
        self._pumps: dict[str, Pump] = {}
        self._members: dict[str, list[str]] = {}
        self._reserved: dict[Key, Envelope] = {}
        self._doomed: dict[Key, Cancel] = {}
        self._journeys = Journeys(surroundings.tracer, surroundings.clock, parts_in(core.policy, surroundings.kinds))
        self._books = Books(
            lambda error: self._count("dispatch.callback_failed", error=type(error).__name__), self._journeys.ended
        )
        self._losses = Losses(self._books)
        self._cancels = RememberedCancels()
        self._refused = 0
        self._asks = Asks(self._clock, self._offer, self._cancel)
        self._parked = Alarm(self._clock, self._poll)
        self._started = False
        self._draining = False
        self._closed = False
        self._over = asyncio.Event()

    # -- pools and life -------------------------------------------------------------------------

    def add_pool(self, spec: PoolSpec) -> Pool:
        """Add a pool; it serves as soon as the dispatcher runs. Raises ConfigError if the name is taken."""
        if spec.name in self._pumps:
            raise ConfigError(f"pool {spec.name!r} exists already; choose another name")
        late = LateEmits(spec.name, self._probe)
        contexts = ContextMaker(spec.name, self._surroundings, partial(self._asks.ask, nested=True), self.number, late)
        pool = Pool(
            spec,
            clock=self._clock,
            make_context=contexts,
            on_done=partial(self._finish, spec.name),
            on_change=partial(self._changed, spec.name),
            on_lost=partial(self._lost, spec.name),
            on_sent=partial(self._journeys.sent, spec.name),
            late_emits=lambda: late.count,
            begin=partial(self._journeys.handled, spec.name),
            probe=self._probe,
        )
        kinds = tuple(spec.kinds)
        self._core.add_pool(
            PoolRoute(spec.name, kinds, keyed=spec.keyed, accepts=spec.accepts, streams_input=spec.streams_input)
        )
        pump = Pump(
            pool,
            self._core,
            clock=self._clock,
            end=self._end,
            taken=self._taken,
            journeys=self._journeys,
            losses=self._losses,
            journal=self._journal,
            probe=self._probe,
        )
        self._pumps[spec.name] = pump
        self._changed(spec.name)
        if self._started:
            pump.start()
        return pool

    async def start(self) -> None:
        """Begin to carry events to the pools. Idempotent."""
        if not self._started:
            self._started = True
            for pump in self._pumps.values():
                pump.start()

    async def drain(self, deadline_s: float) -> None:
        """Refuse new events, let accepted ones end for `deadline_s` seconds, then end the rest.

        Returns with every accepted event answered, at the latest the pools' grace after the deadline.
        Tool calls of handlers that still run are taken until the deadline. Idempotent.
        """
        self._draining = True
        if self._closed:
            await self._over.wait()  # whoever drains already has a deadline
            return
        deadline = self._clock.now() + max(0.0, deadline_s)
        if self._started and deadline_s > 0 and not await self._books.quiet(deadline_s):
            self._count("dispatch.drain_overrun")
        self._closed = True
        try:
            await asyncio.gather(*(pump.stop() for pump in self._pumps.values()))
            async with asyncio.TaskGroup() as group:
                for name, pump in self._pumps.items():
                    group.create_task(pump.pool.drain(deadline), name=f"drain {name}")
            for env in self._books.open():
                self._end(env, drained())
            self._parked.cancel()
        finally:
            self._over.set()

    async def close(self) -> None:
        """End everything now; equals `drain(0)`. Idempotent."""
        await self.drain(0.0)

    # -- in -------------------------------------------------------------------------------------

    def admit(self, env: Envelope) -> Admitted | Refused:
        """Classify, check and reserve; the caller must then `enqueue` or `release` the admitted event."""
        key = key_of(env)
        decision = self._decide(key, env, nested=False)
        if isinstance(decision, Admitted):
            self._reserved[key] = decision.env
        return decision

    def release(self, env: Envelope) -> None:
        """Give an admitted event back that will not be enqueued."""
        key = key_of(env)
        self._doomed.pop(key, None)
        if self._reserved.pop(key, None) is not None and env[KIND] not in self._control:
            self._core.release(env)
            if env[TRACE]:
                self._journeys.released(env)

    def enqueue(self, env: Envelope, on_done: OnDone | None = None) -> None:
        """Queue an admitted event (as `admit` returned it); `on_done` is called exactly once.

        Raises LocalProtocolError if it was not admitted.
        """
        key = key_of(env)
        if self._reserved.pop(key, None) is None:
            raise LocalProtocolError(f"event {envelope_id(env)} was not admitted; call admit() first")
        self._accept(key, env, on_done)

    def offer(self, env: Envelope, on_done: OnDone | None = None) -> LanewayError | None:
        """Admit and queue at once; returns None, or why not (then `on_done` is never called)."""
        return self._offer(env, on_done)

    def pool(self, name: str) -> Pool | None:
        """Return a pool, or None if there is none of that name."""
        pump = self._pumps.get(name)
        return None if pump is None else pump.pool

    async def ask(self, env: Envelope, timeout_s: float, *, nested: bool = False) -> Outcome:
        """Queue an event and wait for its outcome, at most `timeout_s` seconds.

        Never raises for load or failure: a refusal is an outcome "failed" with the refusal's code. An
        asker that is cancelled, or whose time is over, takes its event with it. `nested`: see `Asks.ask`.
        """
        return await self._asks.ask(env, timeout_s, nested=nested)

    def _offer(self, env: Envelope, on_done: OnDone | None, nested: bool = False) -> LanewayError | None:
        key = key_of(env)
        decision = self._decide(key, env, nested=nested)
        if isinstance(decision, Refused):
            self._count("event.refused", code=decision.error.code)  # whoever asks `admit` counts by itself
            return decision.error
        self._accept(key, decision.env, on_done)
        return None

    def _decide(self, key: Key, env: Envelope, *, nested: bool) -> Admitted | Refused:
        """Ask the core; `nested` events belong to work that was accepted before the shutdown began."""
        decision: Admitted | Refused
        since = self._clock.now()
        if self._closed or (self._draining and not nested):
            decision = Refused(
                Draining("this engine is shutting down; send it to another one", retry_after_ms=_DRAIN_RETRY_MS)
            )
        elif key in self._books or key in self._reserved:
            decision = Refused(LocalProtocolError(f"event {envelope_id(env)} is in work already; ids are used once"))
        elif env[KIND] in self._control:
            return Admitted(env)
        else:
            decision = self._core.admit(env, since)
        if isinstance(decision, Refused):
            self._refused += 1
            if env[TRACE]:
                self._journeys.refused(env, since, decision.error)
        elif env[TRACE]:
            self._journeys.admitted(decision.env, env[LANE], since)
        return decision

    def _accept(self, key: Key, env: Envelope, on_done: OnDone | None) -> None:
        """From here on the event is in the books, and ends exactly once."""
        self._books.enter(key, env, on_done)
        if env[KIND] in self._control:
            self._act(env)
            return
        now = self._clock.now()
        early = self._ended_early(key, env, now) if self._doomed or self._cancels.kept or self._closed else None
        if early is not None:
            self._core.release(env)
            self._books.close(env, early)
            return
        try:
            pool = self._core.enqueue(env, now)
        except PeerProtocolError as error:  # its pool was removed since it was admitted
            self._core.release(env)
            self._books.close(env, failed(error))
            return
        if env[TRACE]:
            self._journeys.enqueued(env, pool)
        if not pool:
            self._parked.set(self._core.deadline())
        elif self._started:
            pump = self._pumps[pool]
            if env[LANE] == Lane.CRITICAL:
                pump.rush()
            pump.wake()

    def _ended_early(self, key: Key, env: Envelope, now: float) -> Outcome | None:
        """The outcome of an event that was cancelled, or overtaken by the shutdown, before it was queued."""
        cancel = self._doomed.pop(key, None) or self._cancels.find(env, now)
        if cancel is not None:
            return cancelled(cancel.reason)
        return drained() if self._closed else None

    def _act(self, env: Envelope) -> None:
        """Carry out a control event: INTERRUPT names a run (or none: all), CANCEL an event or call."""
        if env[KIND] == "INTERRUPT":
            self._cancel_and_remember(Cancel(env[TENANT], env[SESSION], run=env[RUN], reason="interrupted"))
        elif env[ENTITY]:
            self._cancel_and_remember(Cancel(env[TENANT], env[SESSION], event_id=env[ENTITY], reason="cancelled"))
        self._books.close(env, Outcome("handled"))

    # -- cancel ---------------------------------------------------------------------------------

    def cancel(
        self, tenant: str, session: str, run: str = "", event_id: str = "", reason: str = "", *, remember: bool = True
    ) -> int:
        """End a run, one event (or tool call), or every run of a session; returns how many events it hit.

        Does not wait for handlers. To `remember` a cancel of a run or an event is to let it meet, for 60 s,
        also what arrives later. O(queued of the session + running).
        """
        cancel = Cancel(tenant, session, run, event_id, reason)
        return self._cancel_and_remember(cancel) if remember else self._cancel(cancel)

    def _cancel_and_remember(self, cancel: Cancel) -> int:
        self._cancels.add(cancel, self._clock.now())
        for key, env in self._reserved.items():
            if key not in self._doomed and cancel.meant_for(env):
                self._doomed[key] = cancel
        return self._cancel(cancel)

    def _cancel(self, cancel: Cancel) -> int:
        outcome = cancelled(cancel.reason)
        ended = self._core.cancel(cancel.tenant, cancel.session, run=cancel.run, event_id=cancel.event_id)
        for pump in self._pumps.values():
            ended += pump.cancel(cancel.meant_for)
        for env in ended:
            self._end(env, outcome)
        return len(ended) + sum(pump.pool.cancel(cancel.meant_for, cancel.reason) for pump in self._pumps.values())

    # -- out ------------------------------------------------------------------------------------

    def _finish(self, pool: str, env: Envelope, outcome: Outcome) -> None:
        """A cell is done with an event: there is room again."""
        if outcome.status == "failed":
            self._count("handler.failed", pool=pool, code=outcome.code)
        self._end(env, outcome)
        pump = self._pumps[pool]
        if env[LANE] == Lane.CRITICAL and not self._closed:
            pump.rush()
        pump.wake()

    def _lost(self, pool: str, envs: Sequence[Envelope]) -> None:
        """A host is gone with these events."""
        pump = self._pumps[pool]
        pump.lost(envs)
        if not self._closed:
            pump.rush()
        pump.wake()

    def _end(self, env: Envelope, outcome: Outcome) -> None:
        """An event that the core knows is over, or a part of one."""
        now = self._clock.now()
        self._core.done(env, now)
        if self._books.close(env, outcome):
            self._took[env[LANE]](now - env[ACCEPTED])
        if self._core.stirred:
            self._wake_others()

    def _taken(self) -> None:
        """Something was taken from the core: end what was found expired on the way."""
        for env in self._core.expired():
            if self._books.close(env, expired()):
                self._took[env[LANE]](self._clock.now() - env[ACCEPTED])
        self._wake_others()

    def _poll(self) -> None:
        """An event has waited long enough for the one it names."""
        self._core.poll(self._clock.now())
        self._wake_others()

    def _wake_others(self) -> None:
        """Wake the pools that got work because an event ended, and plan the next look at parked ones."""
        if woken := self._core.woken():
            self._journeys.resumed(self._core.resumed())
            for name in woken:
                if name in self._pumps:
                    self._pumps[name].wake()
        self._parked.set(self._core.deadline())

    def _changed(self, name: str) -> None:
        """Cells of a pool came, went, or have room again."""
        pump = self._pumps.get(name)
        if pump is None:
            return
        cells = pump.pool.cells
        if cells and cells != self._members.get(name):
            self._members[name] = cells
            self._core.members(name, cells)
        pump.wake()

    def _count(self, name: str, **labels: str) -> None:
        if self._probe is not None:
            self._probe.count(name, 1, **labels)

    def statistics(self) -> DispatcherStatistics:
        """Return the books and gauges. O(cells)."""
        return DispatcherStatistics(
            **totals(self._books),
            pending=len(self._books),
            refused=self._refused,
            reserved=len(self._reserved),
            asks=self._asks.waiting,
            remembered_cancels=len(self._cancels),
            draining=self._draining,
            pools=tuple(pump.pool.statistics() for pump in self._pumps.values()),
            accepted_by_lane=tuple(self._books.accepted),
            ended_by_lane=tuple(dict(lane) for lane in self._books.ended),
            core=self._core.statistics(),
        )
