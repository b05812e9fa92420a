"""From a pool's queue through its cell and handler to the session's door, and the answer back.

Law of this file: see `harness`. Pump, pool, cell, contexts, the embedder's handler and the harvest are the
product's, together, because they hand lists to each other; what gives events is a list, and what takes what
handlers say counts it. A handler of single events is in the sums; the other rows leave one part out.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

from benchmarks.stages.harness import ALWAYS, Batches, Stage, Work
from benchmarks.workload import KINDS
from laneway import Context, EnvelopeView, Out
from laneway.actors.dispatch.books import Books, Ended
from laneway.actors.dispatch.harvest import Harvest
from laneway.actors.dispatch.journeys import Journeys
from laneway.actors.dispatch.losses import Losses
from laneway.actors.dispatch.pump import Pump
from laneway.actors.pools.context import ContextMaker, LateEmits, Surroundings
from laneway.actors.pools.pool import Pool, PoolSpec
from laneway.actors.ports import Outcome
from laneway.engine.app.clock import SystemClock
from laneway.engine.app.handlers import adapt
from laneway.engine.app.outlet import CheckedOutlet
from laneway.engine.telemetry.counters import Counters
from laneway.routing.classify import KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy
from laneway.routing.envelope import Envelope

__all__ = ["CELL"]

_CLOCK: Final = SystemClock()
_ROOM: Final = 64


class _Queue(DispatchCore):
    """Gives what it was handed, in order."""

    def __init__(self) -> None:
        super().__init__(KindTable(KINDS), DispatchPolicy())
        self.waiting: list[Envelope] = []

    def take(
        self, pool: str, room: int, now: float, cell: str | None = None, only_critical: bool = False
    ) -> list[Envelope]:
        taken, self.waiting = self.waiting[:room], self.waiting[room:]
        return taken

    def urgent(self, pool: str) -> bool:
        return False


class _Nowhere:
    """An outlet that counts."""

    def __init__(self) -> None:
        self.events = 0

    async def emit(self, env: Envelope) -> None:
        self.events += 1

    async def emit_all(self, envs: Sequence[Envelope]) -> None:
        self.events += len(envs)

    def emit_now(self, env: Envelope) -> bool:
        self.events += 1
        return True

    def emit_ready(self, envs: Sequence[Envelope]) -> int:
        self.events += len(envs)
        return len(envs)


class _Middle:
    """One pool with its pump and harvest."""

    def __init__(self, handler: Callable[..., Any], *, batch: bool) -> None:
        self.said, self.handled, self.over = _Nowhere(), 0, asyncio.Event()
        self.queue, probe, numbers = _Queue(), Counters(), itertools.count(1)
        around = Surroundings(CheckedOutlet(self.said), _CLOCK, KindTable(KINDS), lambda: "call-1")
        self.pool = Pool(
            PoolSpec("w", ("W_TEXT",), handler, concurrency=_ROOM, batch=batch),
            clock=_CLOCK,
            make_context=ContextMaker("w", around, _ask, lambda: next(numbers), LateEmits("w")),
            on_done=Harvest(self._settle),
            probe=probe,
        )
        self.pump = Pump(
            self.pool,
            self.queue,
            clock=_CLOCK,
            end=self._settle,
            taken=lambda: None,
            journeys=Journeys(None, _CLOCK),
            losses=Losses(Books(_raise)),
            probe=probe,
        )
        self.pump.start()

    def _settle(self, ended: Sequence[Ended]) -> None:
        self.handled += sum(outcome.status == "handled" for _, outcome in ended)
        self.over.set()

    async def carry(self, envs: list[Envelope], upto: int) -> None:
        """Bring these, and wait until so many are answered in all."""
        self.queue.waiting = envs
        self.pump.wake()
        while self.handled < upto:
            self.over.clear()
            await self.over.wait()

    async def close(self) -> None:
        await self.pump.stop()
        await self.pool.drain(_CLOCK.now() + 1.0)


async def _ask(env: Envelope, timeout_s: float) -> Outcome:
    raise AssertionError("nobody asks in W1")


def _raise(error: Exception) -> None:
    raise error


async def _answer(event: EnvelopeView, context: Context) -> Out:
    return Out("CUSTOM", event.body)


async def _answer_all(events: Sequence[EnvelopeView], contexts: Sequence[Context]) -> list[Out]:
    return [Out("CUSTOM", event.body) for event in events]


async def _nothing(event: EnvelopeView, context: Context) -> None:
    return None


async def _nothing_at_all(events: Sequence[EnvelopeView], contexts: Sequence[Context]) -> None:
    return None


def _stage(name: str, function: Callable[..., Any], paths: Sequence[str] = (), *, says: bool, batch: bool) -> Stage:
    async def make(events: Batches) -> Work:
        middle, ends = _Middle(adapt(function, batch=batch), batch=batch), list(itertools.accumulate(map(len, events)))

        async def step(number: int) -> None:
            await middle.carry(events[number], ends[number])

        return Work(step, lambda: min(middle.handled, middle.said.events) if says else middle.handled, middle.close)

    return Stage(name, "cell", make, paths)


CELL: Final = (
    _stage("cell: from queue to answer", _answer, ALWAYS, says=True, batch=False),
    _stage("the same, nothing said", _nothing, says=False, batch=False),
    _stage("the same, handler of lists", _answer_all, says=True, batch=True),
    _stage("the same, lists, nothing said", _nothing_at_all, says=False, batch=True),
)
