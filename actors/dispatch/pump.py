"""The pump of one pool: carries events from the dispatcher's queues to the pool's cells.

Law of this file: nothing is taken from the queues that the pool has no room for, so that what waits
can still be reordered, cancelled and refused; and a critical event never waits for the journal or
for the pump's turn. What was taken and is being journalled is `staged`: a cancel finds it there.

A pump carries once in a turn of the loop, after all that came in it, so that the most urgent of it goes
first; it has a task only while the journal writes.

A pool whose cells are on other hosts may have none. What waits for it still ends at its deadline, and
what was taken for a cell that has gone meanwhile waits again, ahead of what came later. So does what
a host had when it was lost, except runs, which are never repeated, and what has lost three of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from laneway.actors.alarm import Alarm
from laneway.actors.dispatch.books import Ended
from laneway.actors.dispatch.journeys import Journeys
from laneway.actors.dispatch.losses import Losses
from laneway.actors.dispatch.starts import RUN_STARTING
from laneway.actors.endings import CARRIER_LOST, POISON, failed
from laneway.actors.pools.cell import Match
from laneway.actors.pools.pool import Pool
from laneway.actors.ports import Clock, Journal, Outcome, Probe
from laneway.routing.dispatch import DispatchCore
from laneway.routing.envelope import KIND, LANE, TRACE, Envelope
from laneway.routing.errors import LanewayError, StoreError
from laneway.routing.lanes import Lane

__all__ = ["Pump"]

_JOURNAL_DEADLINE_S: Final = 10.0
"""A group commit takes milliseconds; a store that needs longer is down, and the events say so."""

_LOOK_S: Final = 0.1
"""How late an event may end that nobody takes: looking costs as much as there waits."""


class Pump:
    """Keeps one pool supplied, from `start` to `stop`.

    Args:
        end: told of the events that end here instead of in a cell.
        taken: called after each take, to end what was found past its deadline.
        journeys: told which sampled events were taken.
        losses: counts the hosts that an event has lost.
        journal: told of the deliveries that are about to be made, before they are.
        probe: counters `event.redelivered`, `dispatch.pump_failed`.
    """

    def __init__(
        self,
        pool: Pool,
        core: DispatchCore,
        *,
        clock: Clock,
        end: Callable[[Sequence[Ended]], None],
        taken: Callable[[], None],
        journeys: Journeys,
        losses: Losses,
        journal: Journal | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.pool = pool
        self._name = pool.spec.name
        self._keyed = pool.spec.keyed != "none"
        self._remote = pool.spec.remote
        self._core = core
        self._clock = clock
        self._end = end
        self._taken = taken
        self._journeys = journeys
        self._losses = losses
        self._journal = journal
        self._probe = probe
        self._staged: dict[str | None, list[Envelope]] = {}  # by the cell that they are for; None: any
        self._running = self._awake = False
        self._soon: asyncio.Handle | None = None
        self._overdue = Alarm(clock, self._expire)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to carry; once."""
        self._running = True
        self.wake()

    async def stop(self) -> None:
        """Carry nothing any more; idempotent. What is staged stays the caller's to end."""
        self._running = False
        if self._soon is not None:
            self._soon.cancel()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._overdue.cancel()

    @property
    def staged(self) -> int:
        """Events taken and not yet delivered."""
        return sum(map(len, self._staged.values()))

    def wake(self) -> None:
        """Say that there may be something to carry: an event came, or room did. O(1)."""
        if not self._awake and self._running:
            self._awake = True
            if self._task is None:
                self._soon = asyncio.get_running_loop().call_soon(self._carry)

    def rush(self) -> None:
        """Deliver critical events now, as far as the cells' reserve goes. Never waits."""
        for cell in self._cells() if self._core.urgent(self._name) else ():
            room = self.pool.room(cell, critical=True)
            if room > 0:
                envs = self._core.take(self._name, room, self._clock.now(), cell=cell, only_critical=True)
                if envs:
                    self._told(envs)
                    self.pool.deliver(*envs, cell=cell)
        if self._core.stirred:
            self._taken()

    def cancel(self, match: Match) -> list[Envelope]:
        """Take out staged events that match; the caller answers for them."""
        hits: list[Envelope] = []
        for cell, envs in list(self._staged.items()):
            if found := [env for env in envs if match(env)]:
                hits += found
                self._stage(cell, [env for env in envs if not match(env)])
        return hits

    def lost(self, envs: Sequence[Envelope]) -> None:
        """The host that had these, in this order, is gone: what may be repeated waits again, the rest is over."""
        over: list[Ended] = []
        again: list[Envelope] = []
        self._losses.sweep()
        for env in envs:
            if self.pool.spec.run_starting or env[KIND] in RUN_STARTING:
                over.append((env, CARRIER_LOST))
            elif self._losses.again(env):
                again.append(env)
            else:
                over.append((env, POISON))
        if again:
            if self._probe is not None:
                self._probe.count("event.redelivered", len(again), pool=self._name)
            self._give_back([*again, *self._unstage()])
        self._end(over)

    def _carry(self) -> None:
        """Carry what there is room for; what the journal is to be told of first goes on in a task."""
        self._soon = None
        if self._task is not None:
            return  # woken by what it took: more is taken when that is recorded and delivered, room for room
        self._awake = False
        try:
            self._take()
            if self._staged and self._journal is not None:
                self._deliver(only_critical=True)
            if self._staged and self._journal is not None:
                recording = self._record(self._journal)
                self._task = asyncio.get_running_loop().create_task(recording, name=f"pump {self._name}")
            elif self._staged:
                self._deliver()
        except Exception as error:
            self._failed(error)
        if self._remote and self._task is None:
            self._watch()

    def _failed(self, error: Exception) -> None:
        """A failing turn ends its events with an error and is counted."""
        if self._probe is not None:
            self._probe.count("dispatch.pump_failed", pool=self._name, error=type(error).__name__)
        self._end_staged(failed(error))

    def _watch(self) -> None:
        """Look again when something that waits may be over although nobody takes it."""
        self._overdue.set(max(self._core.soonest(self._name), self._clock.now() + _LOOK_S))

    def _expire(self) -> None:
        self._core.expire(self._name, self._clock.now())
        self._taken()
        self._watch()

    def _cells(self) -> list[str | None]:
        return list(self.pool.cells) if self._keyed else [None]

    def _take(self) -> None:
        """Stage what the cells have room for; critical events into their reserve if that is all there is."""
        full = False
        for cell in self._cells():
            room = self.pool.room(cell)
            if room > 0:
                envs = self._core.take(self._name, room, self._clock.now(), cell=cell)
                if envs:
                    self._told(envs)
                    self._staged.setdefault(cell, []).extend(envs)
                full = full or len(envs) == room
            else:
                full = True
        if full:
            self._deliver(only_critical=True)  # before those that a rush finds behind them
            self.rush()
        elif self._core.stirred:
            self._taken()

    async def _record(self, journal: Journal) -> None:
        """Have the deliveries recorded, then make them."""
        try:
            async with asyncio.timeout(_JOURNAL_DEADLINE_S):
                await journal.starting([env for envs in self._staged.values() for env in envs])
            self._deliver()
        except TimeoutError:
            message = f"the journal did not record the delivery within {_JOURNAL_DEADLINE_S:.0f} s; try again"
            self._failed(StoreError(message))
        except Exception as error:
            self._failed(error)
        self._task, self._awake = None, False
        self.wake()

    def _told(self, envs: list[Envelope]) -> None:
        for env in envs:
            if env[9]:
                self._journeys.taken(env, self._name)

    def _stage(self, cell: str | None, envs: list[Envelope]) -> None:
        """Let these, or none, be what is staged for a cell."""
        if envs:
            self._staged[cell] = envs
        else:
            self._staged.pop(cell, None)

    def _unstage(self) -> list[Envelope]:
        staged, self._staged = self._staged, {}
        return [env for envs in staged.values() for env in envs]

    def _deliver(self, *, only_critical: bool = False) -> None:
        """Deliver what is staged. Raises LanewayError where a cell takes no more; that stays for who called."""
        staged, self._staged = self._staged, {}
        for cell in list(staged):
            envs = staged[cell]
            if only_critical:
                self._stage(cell, [env for env in envs if env[7]])
                envs = [env for env in envs if not env[7]]
            try:
                if self._remote:
                    self._deliver_apart(envs, cell)
                elif envs:
                    self.pool.deliver(*envs, cell=cell)
            except LanewayError:
                self._staged |= staged
                raise
            del staged[cell]

    def _deliver_apart(self, envs: list[Envelope], cell: str | None) -> None:
        """Deliver to hosts, which may be lost meanwhile: what has no room any more waits again."""
        homeless: list[Envelope] = []
        for env in envs:
            if self._fits(env, cell):
                self.pool.deliver(env, cell=cell)
            else:
                homeless.append(env)
        if homeless:
            self._give_back(homeless)
            self.wake()

    def _fits(self, env: Envelope, cell: str | None) -> bool:
        room = self.pool.room
        return room(cell) > 0 or (env[LANE] == Lane.CRITICAL and room(cell, critical=True) > 0)

    def _give_back(self, envs: list[Envelope]) -> None:
        for env in envs:
            if env[TRACE]:
                self._journeys.returned(env)
        self._core.give_back(self._name, envs)

    def _end_staged(self, outcome: Outcome) -> None:
        self._end([(env, outcome) for env in self._unstage()])
