"""Sessions: what an event costs the dispatcher's decisions while 1, 1,000 or 100,000 sessions wait.

Law of this file: the decisions are the product's, and all of them are asked: admit, queue, take by lane,
tenant and session, done. Every session waits all the time, in tenants of 100 sessions, so that each take
must choose; what is taken comes back behind the others. Time is the processor's, of batches of 64.

O(1) amortised is what the figures are to show: they may rise with what no longer fits into the
processor's caches, and not with the number of sessions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from rich.table import Table

from benchmarks.measure import Options, Row
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy, PoolRoute
from laneway.routing.envelope import NO_DEADLINE, Envelope
from laneway.routing.errors import LocalProtocolError
from laneway.routing.lanes import Lane
from laneway.routing.limits import AdmissionPolicy

__all__ = ["SIZES", "run", "table"]

SIZES: Final = (1, 1_000, 100_000)
_KIND: Final = "WORK"
_BATCH: Final = 64
_OF_A_TENANT: Final = 100
_ALONE: Final = 200
"""Events of a session that is alone: more than a take, so that it must choose too."""
_BODY: Final = b"x" * 78


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure each number of sessions, interleaved, and return microseconds per event."""
    events = max(_BATCH, options.events)
    loads = {size: _Waiting(size) for size in SIZES if size <= 1_000 or options.repeats > 1}
    took: dict[int, list[float]] = {size: [] for size in loads}
    for _ in range(max(2, options.repeats)):
        for size, load in loads.items():
            status(f"{size:,} sessions")
            took[size].append(load.cost_us(events))
    return [
        Row("sessions", f"{size:,} waiting", "us", tuple(costs), sorted(costs)[len(costs) // 2], float("nan"))
        for size, costs in took.items()
    ]


def table(rows: Sequence[Row]) -> Table:
    """Return the costs, and each against the one of a single session."""
    shown = Table(title="Sessions: processor time of admit, queue, choose and done, per event, batches of 64")
    for name in ("waiting", "us per event", "of one session's"):
        shown.add_column(name, justify="left" if name == "waiting" else "right")
    for row in rows:
        shown.add_row(row.row, f"{row.median:.2f}", f"{row.median / rows[0].median:.2f}x")
    return shown


class _Waiting:
    """A dispatcher in front of which so many sessions wait."""

    def __init__(self, sessions: int) -> None:
        names = [(f"t{number // _OF_A_TENANT}", f"s{number}") for number in range(sessions)]
        self._counter = 0
        free = AdmissionPolicy(
            rate_per_s=inf, tenant_events=1 << 30, tenant_bytes=1 << 40, process_bytes=1 << 40, max_sessions=1 << 20
        )
        kinds = KindTable([Kind(_KIND, Lane.NORMAL, direction=IN)])
        self._core = DispatchCore(kinds, DispatchPolicy(admission=free, target_wait_s=inf))
        self._core.add_pool(PoolRoute("p", [_KIND]))
        self._now = 0.0
        self._offer([self._event(*name) for name in (names if sessions > 1 else names * _ALONE)])

    def _event(self, tenant: str, session: str) -> Envelope:
        self._counter += 1
        body = (NO_DEADLINE, "", "", _BODY, self._now)
        return ("p", self._counter, _KIND, tenant, session, "", "", int(Lane.NORMAL), *body)

    def _offer(self, envs: list[Envelope]) -> None:
        if any(not isinstance(answer, tuple) for answer in self._core.offer(envs, self._now)):
            raise LocalProtocolError("an event of the benchmark was refused")

    def cost_us(self, events: int) -> float:
        """Return what an event costs: it is taken, done, and another one of its session offered."""
        core, spent_s, done = self._core, 0.0, 0
        while done < events:
            self._now += 0.001
            began = time.process_time()
            taken = core.take("p", _BATCH, self._now)
            core.done(taken)
            spent_s += time.process_time() - began
            again = [self._event(env[3], env[4]) for env in taken]
            began = time.process_time()
            self._offer(again)
            spent_s += time.process_time() - began
            done += len(taken)
        return spent_s / done * 1e6
