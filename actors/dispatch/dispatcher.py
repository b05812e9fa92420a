"""The dispatcher: a thin loop around the pure DispatchCore, and the books of every accepted event.

Law of this file: each accepted event is over exactly once, and whoever waits for it is told:
accepted = handled + expired + dropped + cancelled + failed + dead + pending, at any moment. Refusals are
answered at the door and are not accepted.

What decides (lanes, quotas, fairness, placement) is in `routing/dispatch.py`; what waits for time or
I/O is here: asks, the pumps, the shutdown. Events come in and end in lists: see `door` and `harvest`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from functools import partial

from laneway.actors.alarm import Alarm
from laneway.actors.dispatch.accounts import DispatcherStatistics, totals
from laneway.actors.dispatch.asks import Asks
from laneway.actors.dispatch.books import Books, Ended, OnDone
from laneway.actors.dispatch.cancels import Cancel
from laneway.actors.dispatch.door import Door
from laneway.actors.dispatch.harvest import Harvest
from laneway.actors.dispatch.journeys import Journeys, parts_in
from laneway.actors.dispatch.losses import Losses
from laneway.actors.dispatch.pump import Pump
from laneway.actors.endings import cancelled, drained, dropped, expired
from laneway.actors.meters import by_lane
from laneway.actors.pools.context import ContextMaker, LateEmits, Surroundings
from laneway.actors.pools.pool import Pool, PoolSpec
from laneway.actors.ports import Journal, Outcome, Probe
from laneway.routing.dispatch import DispatchCore, PoolRoute, Verdict
from laneway.routing.envelope import ENTITY, KIND, LANE, RUN, SESSION, TENANT, Envelope
from laneway.routing.errors import ConfigError, LanewayError
from laneway.routing.lanes import Lane

__all__ = ["Dispatcher"]


class Dispatcher:
    """Takes events in, sees them through their pools, and tells how each one ended.

    Lives on one event loop. Before `start` events are accepted and wait.

    Args:
        core: the decisions; nothing else may touch it.
        surroundings: what the contexts of handlers need (outlet, clock, kinds, ...).
        journal: told before ordinary events are given to a handler, so that a crash in it is counted.
        probe: counters `event.refused`, `handler.failed`, `dispatch.callback_failed` and the cells';
            histograms `event.time` per lane (acceptance to end) and the cells'.
        first_number: of the events made here. Where a session may have been at home elsewhere before, a
            random one: else two dispatchers would give one id to two events of a session.
    """

    def __init__(
        self,
        core: DispatchCore,
        surroundings: Surroundings,
        *,
        journal: Journal | None = None,
        probe: Probe | None = None,
        first_number: int = 1,
    ) -> None:
        self._core = core
        self._surroundings = surroundings
        self._clock = surroundings.clock
        self._journal = journal
        self._probe = probe
        self.number = partial(next, itertools.count(first_number))
        self._pumps: dict[str, Pump] = {}
        self._harvests: dict[str, Harvest] = {}
        self._members: dict[str, list[str]] = {}
        self._journeys = Journeys(surroundings.tracer, surroundings.clock, parts_in(core.policy, surroundings.kinds))
        self._books = Books(
            lambda error: self._count("dispatch.callback_failed", error=type(error).__name__),
            self._journeys.ended,
            by_lane(probe, "event.time"),
        )
        self._door = Door(
            core,
            self._books,
            self._journeys,
            self._clock,
            control=frozenset(kind.name for kind in surroundings.kinds if kind.control),
            act=self._act,
            arrived=self._arrived,
            count=self._count,
        )
        self._losses = Losses(self._books)
        self._asks = Asks(self._clock, self._offer, self._cancel)
        self._parked = Alarm(self._clock, self._poll)
        self._started = False
        self._over = asyncio.Event()

    # -- pools and life -------------------------------------------------------------------------

    def add_pool(self, spec: PoolSpec) -> Pool:
        """Add a pool; it serves as soon as the dispatcher runs. Raises ConfigError if the name is taken."""
        if spec.name in self._pumps:
            raise ConfigError(f"pool {spec.name!r} exists already; choose another name")
        late, harvest = LateEmits(spec.name, self._probe), Harvest(partial(self._settle, spec.name))
        contexts = ContextMaker(spec.name, self._surroundings, partial(self._asks.ask, nested=True), self.number, late)
        pool = Pool(
            spec,
            clock=self._clock,
            make_context=contexts,
            on_done=harvest,
            on_change=partial(self._changed, spec.name),
            on_lost=partial(self._lost, spec.name),
            on_sent=partial(self._journeys.sent, spec.name),
            late_emits=lambda: late.count,
            begin=partial(self._journeys.handled, spec.name),
            probe=self._probe,
        )
        kinds = tuple(spec.kinds)
        self._core.add_pool(
            PoolRoute(
                spec.name,
                kinds,
                keyed=spec.keyed,
                accepts=spec.accepts,
                streams_input=spec.streams_input,
                target_wait_s=spec.target_wait_s,
                tenant_share=spec.tenant_share,
            )
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
        self._pumps[spec.name], self._harvests[spec.name] = pump, harvest
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
        self._door.draining = True
        if self._door.closed:
            await self._over.wait()  # whoever drains already has a deadline
            return
        deadline = self._clock.now() + max(0.0, deadline_s)
        if self._started and deadline_s > 0 and not await self._books.quiet(deadline_s):
            self._count("dispatch.drain_overrun")
        self._door.closed = True
        try:
            await asyncio.gather(*(pump.stop() for pump in self._pumps.values()))
            async with asyncio.TaskGroup() as group:
                for name, pump in self._pumps.items():
                    group.create_task(pump.pool.drain(deadline), name=f"drain {name}")
            for harvest in self._harvests.values():
                harvest.settle()
            self._end([(env, drained()) for env in self._books.open()])
            self._parked.cancel()
        finally:
            self._over.set()

    async def close(self) -> None:
        """End everything now; equals `drain(0)`. Idempotent."""
        await self.drain(0.0)

    # -- in -------------------------------------------------------------------------------------

    def admit_batch(self, envs: Sequence[Envelope]) -> Sequence[Verdict]:
        """Classify, check and reserve events, of any sessions; one answer per event, in order.

        An answer is the event to go on with (its lane may have changed), which the caller must then
        `enqueue_batch` or `release`, or the error it is refused with: nothing is kept of that one, and
        it does not hold up the others. O(events); one event is a batch of one.
        """
        return self._door.admit(envs)

    def introduce(self, tenant: str, session: str, producer: str, subject: str) -> None:
        """Say whose events those of a producer are, before the first of them; see `Quotas`."""
        self._core.introduce(tenant, session, producer, subject)

    def release(self, env: Envelope) -> None:
        """Give an admitted event back that will not be enqueued."""
        self._door.release(env)

    def forget(self, tenant: str, session: str) -> bool:
        """Drop the account of a session that nobody uses; False while it has events in flight or rates to remember."""
        return self._core.admission.forget(tenant, session, self._clock.now())

    def enqueue_batch(self, envs: Sequence[Envelope], on_done: OnDone | None = None) -> None:
        """Queue admitted events (as `admit_batch` returned them) in order; from now on they are accepted.

        `on_done` is told how each of them ended, exactly once: it is called with a list of (event,
        outcome), of all that ended in the same turn of the loop and were enqueued with the same
        `on_done`, in whatever batches. It must be hashable (pass the same object each time: a bound
        method kept once, not a closure per call), must not raise, and may call back into the dispatcher.
        It is called before this returns for events that are over already (a control event, one that was
        cancelled since).

        Raises LocalProtocolError if one of them was not admitted; those before it are queued. O(events).
        """
        self._door.enqueue(envs, on_done)

    def offer_batch(self, envs: Sequence[Envelope], on_done: OnDone | None = None) -> list[LanewayError | None]:
        """Admit and queue at once; per event None, or why not (of which `on_done` is never told)."""
        return self._door.offer(envs, on_done)

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

    def _offer(self, env: Envelope, on_done: OnDone, nested: bool) -> LanewayError | None:
        return self._door.offer((env,), on_done, nested)[0]

    def _arrived(self, pools: dict[str, bool]) -> None:
        """Pools got something to take; "" stands for what is parked."""
        if pools.pop("", None) is not None:
            self._parked.set(self._core.deadline())
        if self._started:
            for name, critical in pools.items():
                self._serve(name, critical)

    def _serve(self, name: str, critical: bool) -> None:
        pump = self._pumps[name]
        if critical and not self._door.closed:
            pump.rush()
        pump.wake()

    def _act(self, env: Envelope) -> None:
        """Carry out a control event: INTERRUPT names a run (or none: all), CANCEL an event or call."""
        if env[KIND] == "INTERRUPT":
            self._cancel_and_remember(Cancel(env[TENANT], env[SESSION], run=env[RUN], reason="interrupted"))
        elif env[ENTITY]:
            self._cancel_and_remember(Cancel(env[TENANT], env[SESSION], event_id=env[ENTITY], reason="cancelled"))
        self._books.close([(env, Outcome("handled"))], self._clock.now())

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
        self._door.cancel(cancel)
        return self._cancel(cancel)

    def _cancel(self, cancel: Cancel) -> int:
        outcome = cancelled(cancel.reason)
        ended = self._core.cancel(cancel.tenant, cancel.session, run=cancel.run, event_id=cancel.event_id)
        for pump in self._pumps.values():
            ended += pump.cancel(cancel.meant_for)
        self._end([(env, outcome) for env in ended])
        return len(ended) + sum(pump.pool.cancel(cancel.meant_for, cancel.reason) for pump in self._pumps.values())

    # -- out ------------------------------------------------------------------------------------

    def _settle(self, pool: str, ended: list[Ended]) -> None:
        """Cells of a pool are done with events: there is room again."""
        critical = False
        for env, outcome in ended:
            critical = critical or env[LANE] == Lane.CRITICAL
            if outcome.status == "failed":
                self._count("handler.failed", pool=pool, code=outcome.code)
        self._end(ended)
        if self._core.backlog(pool):
            self._serve(pool, critical)

    def _lost(self, pool: str, envs: Sequence[Envelope]) -> None:
        """A host is gone with these events."""
        self._pumps[pool].lost(envs)
        self._serve(pool, critical=True)

    def _end(self, ended: Sequence[Ended]) -> None:
        """Events that the core knows are over, or parts of one."""
        if ended:
            self._core.done([env for env, _ in ended])
            self._books.close(ended, self._clock.now())
            if self._core.stirred:
                self._wake_others()

    def _taken(self) -> None:
        """Something was taken from the core: end what was found expired on the way, or dropped."""
        if late := self._core.expired():
            self._books.close([(env, expired()) for env in late], self._clock.now())
        if thinned := self._core.dropped():
            outcome = dropped(self._core.policy.codel.interval_s)
            self._books.close([(env, outcome) for env in thinned], self._clock.now())
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
            self._core.slots(name, pump.pool.spec.concurrency * len(cells))
        pump.wake()

    def _count(self, name: str, times: int = 1, **labels: str) -> None:
        if self._probe is not None:
            self._probe.count(name, times, **labels)

    def statistics(self) -> DispatcherStatistics:
        """Return the books and gauges. O(cells)."""
        return DispatcherStatistics(
            **totals(self._books),
            pending=len(self._books),
            refused=self._door.refused,
            reserved=len(self._door.reserved),
            asks=self._asks.waiting,
            remembered_cancels=self._door.remembered,
            draining=self._door.draining,
            pools=tuple(pump.pool.statistics() for pump in self._pumps.values()),
            accepted_by_lane=tuple(self._books.accepted),
            ended_by_lane=tuple(dict(lane) for lane in self._books.ended),
            core=self._core.statistics(),
        )
