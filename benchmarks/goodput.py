"""Goodput: how much of what the handlers can do is of use to somebody, while up to ten times that is offered.

W4's handlers, lanes and sessions; every result is wanted for one second from its time on the schedule,
and events say so (their deadline), but for critical ones, which are never given up. Useful is a result that
came within the second; a result that came later, a refusal and an event that was given up are of no use.
Counted in the second half of the schedule (6 s at full size), when queues are as full as they get, and so is
what the low lane gets. The peak is the row's best at any load.

Clients "once" offer everything, and take a refusal for an answer. Clients that "retry" do as `laneway.Client`
does, by its own `Restraint`: at most four times more, not before the engine's own word, while the result is
still wanted and there is a token for it; and new events are refused by the client itself while the engine
refuses most. "Retry blindly" is the same without that restraint: everything is offered, and again up to four
times when the engine said. A bare queue refuses nothing, so there is nothing to retry; who waits there gives
up after the second, and the queue does not know.

Law of this file: every event ends once: useful, late, refused or given up; laneway's rows must say of each
which it was (see `sweep`), and only a bare queue may keep silent.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from rich.table import Table

from benchmarks.measure import Options, Row, percentile
from benchmarks.overload import mixed
from benchmarks.overload_rows import ENGINE, PRIORITY
from benchmarks.overload_served import GRPC
from benchmarks.repetitions import Figures, Runs, engine_cpu_us, lane_figures, planned
from benchmarks.sweep import NOMINAL_PER_S, Due, Load, Offer, Speaker, Subject, Tally, now_s, offered
from benchmarks.workload import SESSIONS
from laneway.routing.restraint import Restraint

__all__ = ["CASES", "LOADS", "WORKLOAD", "Case", "Clients", "flatness", "peaks", "run", "run_once", "table"]

WORKLOAD: Final = "goodput"
LOADS: Final[Mapping[str, float]] = {"1x": 1.0, "2x": 2.0, "4x": 4.0, "10x": 10.0}
_WANTED_S: Final = 1.0
_ATTEMPTS: Final = 5
_LONGER: Final = 2.0
"""Times the seconds of W4, and one repetition less: it takes some seconds until queues are as full as they get."""
_TICK_S: Final = 0.002


_CROWD: Final = tuple(Speaker("t", f"s{number}") for number in range(2 * SESSIONS))
"""At 10x each has 12.5 critical events a second: below the 20 from which on they are policed."""


@dataclass(frozen=True, slots=True)
class Case:
    """Who is overloaded, and by whom: a row.

    Attributes:
        attempts: how often a client offers an event at most.
        blindly: clients keep nothing back.
        tells: the row says of every event what became of it; else clients give up in silence.
    """

    subject: Subject
    attempts: int
    tells: bool = True
    crowd: Sequence[Speaker] = _CROWD
    blindly: bool = False

    @property
    def row(self) -> str:
        """Its name."""
        how = "once" if self.attempts == 1 else "retry blindly" if self.blindly else "retry"
        return f"{self.subject.row}, {how}"


CASES: Final = (
    Case(PRIORITY, 1, tells=False),
    *(
        Case(subject, attempts, blindly=blindly)
        for subject in (ENGINE, GRPC)
        for attempts, blindly in ((1, False), (_ATTEMPTS, False), (_ATTEMPTS, True))
    ),
)


class Clients(Tally):
    """What came of one run whose clients want results in time, and may offer again.

    Attributes:
        tries: events offered, those that were offered again included.
    """

    def __init__(
        self, crowd: Sequence[Speaker], attempts: int, *, tells: bool, restraints: Sequence[Restraint] = ()
    ) -> None:
        super().__init__(crowd)
        self.tries = 0
        self._attempts = attempts
        self._tells = tells
        self._restraints = restraints
        self._retries: dict[int, int] = {}
        self._again: list[tuple[float, int, Due]] = []
        self._open: deque[Due] = deque()
        self._over: set[int] = set()

    def sent(self, events: Sequence[Due]) -> Sequence[Due]:
        """Remember who may have to give up; keep back what had better not be offered."""
        if self._restraints:
            now, offered = now_s(), list[Due]()
            for event in events:
                if self._restraints[event.who].holds(event.lane, now) is None:
                    offered.append(event)
                else:
                    super().refuse(event)
            events = offered
        self.tries += len(events)
        if not self._tells:
            self._open.extend(event for event in events if event.until < math.inf)
        return events

    def accept(self, event: Due) -> None:
        """Remember that the engine takes some."""
        if self._restraints:
            self._restraints[event.who].taken(event.lane)

    def finish(self, event: Due) -> None:
        """Take a result, unless nobody has waited for it for long."""
        if not self._tells:
            if event.number in self._over:
                return
            self._over.add(event.number)
        super().finish(event)

    def refuse(self, event: Due, retry_after_ms: int | None = None, reason: str = "") -> None:
        """Offer it again when the engine said, if it said so, and if that is not too late or too often."""
        tried, at = self._retries.get(event.number, 1), None
        if retry_after_ms is not None:
            last = tried >= self._attempts
            if self._restraints:
                at = self._restraints[event.who].refused(event.lane, reason, retry_after_ms, now_s(), last=last)
            elif not last:
                at = now_s() + retry_after_ms / 1e3
        if at is None or at >= event.until:
            super().refuse(event)
            return
        self._retries[event.number] = tried + 1
        heapq.heappush(self._again, (at, event.number, event))

    def look(self) -> None:
        """Give up what nobody has answered in time."""
        now = now_s()
        while self._open and self._open[0].until <= now:
            event = self._open.popleft()
            if event.number not in self._over:
                self._over.add(event.number)
                self.expire(event)

    async def repeat(self, offer: Offer) -> None:
        """Offer again what is due, until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            now, batch = now_s(), list[Due]()
            while self._again and self._again[0][0] <= now:
                batch.append(heapq.heappop(self._again)[2])
            if batch:
                self.tries += len(batch)
                await offer(batch)


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure every row at every load. Raises RuntimeError if an event was lost."""
    options = replace(options, overload_repeats=max(1, options.overload_repeats - 1))
    runs, cases = Runs(WORKLOAD, "useful_per_s", "useful per s"), {case.row: case for case in CASES}
    subjects = [Subject(case.row, case.subject.open, case.subject.slots) for case in CASES]
    for subject, load in planned(WORKLOAD, subjects, tuple(LOADS), options, status):
        runs.add(subject, load, asyncio.run(run_once(cases[subject.row], load, _LONGER * options.seconds)))
    return runs.rows()


async def run_once(case: Case, load: str, seconds: float) -> Figures:
    """One run of one row at one load; its figures. Raises RuntimeError if an event was lost."""
    offer = Load(load, LOADS[load] * NOMINAL_PER_S, seconds, mixed, _turns(case.crowd), case.crowd, _WANTED_S)
    restraints = (
        [] if case.blindly or case.attempts == 1 else [Restraint(Random(who).random) for who in range(len(case.crowd))]
    )
    clients = Clients(case.crowd, case.attempts, tells=case.tells, restraints=restraints)
    subject = Subject(case.row, case.subject.open, case.subject.slots)
    watch = await offered(subject, offer, clients, clients.repeat)
    count = len(offer.events())
    return {
        **lane_figures(clients, offer),
        **_use(clients, offer),
        "engine_cpu_us": engine_cpu_us(watch, count),
        "tries_per_s": clients.tries / seconds,
    }


def _turns(crowd: Sequence[Speaker]) -> Callable[[int], int]:
    return lambda number: number // 7 % len(crowd)


def _use(clients: Clients, load: Load) -> dict[str, float]:
    """What was of use, of what came in the second half of the schedule; and how all events ended."""
    half, over = clients.begun + load.seconds / 2, clients.begun + load.seconds
    late_s = [at - event.due for event, at in clients.done]
    useful = [late for late in late_s if late <= _WANTED_S]
    came = [(event, at) for event, at in clients.done if half < at <= over]
    count = len(load.events())
    return {
        "useful_per_s": sum(at - event.due <= _WANTED_S for event, at in came) / (over - half),
        "handled_per_s": len(came) / (over - half),
        "useful_p99_ms": percentile(useful, 0.99) * 1e3,
        "late_share": (len(late_s) - len(useful)) / count,
        "refused_share": len(clients.refused) / count,
        "given_up_share": len(clients.expired) / count,
    }


def peaks(rows: Sequence[Row]) -> Mapping[str, float]:
    """Return, per row, its best goodput at any load."""
    found: dict[str, float] = {}
    for row in rows:
        if row.workload == WORKLOAD:
            name = row.row.rpartition(" @")[0]
            found[name] = max(found.get(name, 0.0), row.median)
    return found


def flatness(rows: Sequence[Row], name: str, load: str) -> float | None:
    """Return a row's goodput at a load as a share of its peak; None if either is missing."""
    peak = peaks(rows).get(name)
    here = next((row.median for row in rows if (row.workload, row.row) == (WORKLOAD, f"{name} @{load}")), None)
    return here / peak if here is not None and peak else None


def table(rows: Sequence[Row]) -> Table:
    """Return the rows for people."""
    made = Table(title=f"Goodput: results within {_WANTED_S:g} s of their time, of handlers that can do 2,000 a second")
    made.add_column("row", no_wrap=True)
    for heading in (
        "load", "useful per s", "of peak", "handled per s", "p99 ms", "late %", "refused %", "given up %",
        "tries per s", "low per s", "longest without low, ms",
    ):  # fmt: skip
        made.add_column(heading, justify="right")
    before = ""
    for row in rows:
        name, _, load = row.row.rpartition(" @")
        found, share = row.extra, flatness(rows, name, load)
        if before not in ("", name):
            made.add_section()
        made.add_row(
            name if name != before else "",
            load,
            f"{row.median:,.0f}",
            "" if share is None else f"{100 * share:.0f} %",
            f"{found['handled_per_s']:,.0f}",
            f"{found['useful_p99_ms']:,.0f}",
            *(f"{100 * found[f'{each}_share']:.1f}" for each in ("late", "refused", "given_up")),
            *(f"{found[each]:,.0f}" for each in ("tries_per_s", "low_per_s", "low_pause_ms")),
        )
        before = name
    return made
