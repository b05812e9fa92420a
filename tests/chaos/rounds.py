"""One round: load, a fault, the way back, and everybody's word on it.

Law of this file: a round has sessions and clients of its own, so that its verdict is about it alone; a round in
which too little happened is no proof, and fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from dataclasses import dataclass, field
from typing import Final

from laneway.actors.sessions.session import session_key
from tests.chaos.appends import read_account
from tests.chaos.faults import Fault, Strike
from tests.chaos.people import TENANT, Caller
from tests.chaos.stage import Stage, until
from tests.chaos.verdict import Verdict, judge, read_log

__all__ = ["LONG", "SHORT", "Pace", "Row", "play"]

_HEALED_S: Final = 100.0
_LEAST_ACCEPTED: Final = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """How much, and how long.

    Attributes:
        sessions: loaded at once; every other one has two clients. jobs_per_s, runs_per_s: of each client.
        before_s, after_s: load before the fault, and after it has healed. scale: of the faults' pauses.
    """

    sessions: int
    jobs_per_s: float
    runs_per_s: float
    before_s: float
    after_s: float
    scale: float


SHORT: Final = Pace(2, 8.0, 1.0, 0.7, 0.3, 0.0)
LONG: Final = Pace(4, 12.0, 1.0, 3.0, 3.0, 1.0)


@dataclass(slots=True)
class Row:
    """One line of the table.

    Attributes:
        heals: seconds from the fault to the answer of what each client asked for next.
    """

    fault: str
    seed: int
    fired: int = 0
    heals: list[float] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def p50_s(self) -> float:
        return statistics.median(self.heals) if self.heals else 0.0

    @property
    def max_s(self) -> float:
        return max(self.heals, default=0.0)


async def play(stage: Stage, faults: tuple[Fault, ...], pace: Pace, seed: int) -> Row:
    """Play one round with one fault, or with several at once."""
    name = " + ".join(fault.name for fault in faults)
    row = Row(name, seed)
    environment = {key: value for fault in faults for key, value in fault.environment.items()}
    if environment:
        await stage.fronts[1].kill()
        await stage.fronts[1].start(environment)
    await stage.whole()
    begun = time.monotonic()
    async with contextlib.AsyncExitStack() as leaving:
        callers = [await leaving.enter_async_context(caller) for caller in _callers(stage, pace, f"{seed}-{begun:.0f}")]
        await _play(stage, callers, faults, pace, row)
        sessions = {caller.session for caller in callers}
        logs = [await read_log(stage.store, stage.redis, each, stage.kinds) for each in sorted(sessions)]
        excused = any(fault.repeats for fault in faults)
        row.verdict = judge(callers, logs, stage.ledger.read(), stage.kinds, excused=excused)
    if environment:
        await stage.fronts[1].kill()
    await _check_books(stage, row.verdict)
    _check_account(stage, sessions, row.verdict, moves=any(fault.moves for fault in faults))
    if row.verdict.accepted < _LEAST_ACCEPTED:
        row.verdict.violations.append(f"proves little: {row.verdict.accepted} events were accepted")
    return row


async def _play(stage: Stage, callers: list[Caller], faults: tuple[Fault, ...], pace: Pace, row: Row) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as work:
        for caller in callers:
            work.create_task(caller.load(stop, jobs_per_s=pace.jobs_per_s, runs_per_s=pace.runs_per_s))
        try:
            await asyncio.sleep(pace.before_s)
            await until(lambda: all(any(caller.answers("JOB", 0)) for caller in callers), "a job was asked for")
            struck = time.monotonic()
            strikes = [
                fault.strike(Strike(stage, callers[0].session, pace.scale, len(faults) == 1)) for fault in faults
            ]
            row.fired = sum(await asyncio.gather(*strikes))
            await stage.whole()
            for caller in callers:
                for fault in faults:
                    caller.ask(fault.probe)
            await asyncio.sleep(pace.after_s)
        finally:
            stop.set()
    try:
        await until(lambda: all(caller.quiet for caller in callers), "all was answered and read", _HEALED_S)
    except AssertionError as error:
        waiting = {caller.name: (len(caller._sending), sorted(caller.waiting)[:5]) for caller in callers}
        row.verdict.violations.append(f"{error}: {waiting}")
    probes = {fault.probe for fault in faults}
    row.heals = [
        next(asked.answered for asked in caller.answers(probe, struck)) - struck
        for caller in callers
        for probe in probes
        if next(iter(caller.answers(probe, struck))).answered
    ]


def _callers(stage: Stage, pace: Pace, mark: str) -> list[Caller]:
    ports = [front.grpc for front in stage.fronts]
    made = []
    for number in range(pace.sessions):
        for half in range(1 + (number % 2 == 0)):
            first = ports if (number + half) % 2 else ports[::-1]
            name = f"c{number}{half}-{mark}"
            made.append(Caller(f"s{number}-{mark}", name, first, stage.kinds, name))
    return made


def _check_account(stage: Stage, sessions: set[str], verdict: Verdict, *, moves: bool) -> None:
    """Redis' own file: nobody wrote to a log that another had claimed since."""
    account = read_account(stage.redis.directory)
    verdict.violations += account.strays
    claims = [account.claims.get(session_key(TENANT, session), []) for session in sessions]
    if not all(claims) or not account.appends:
        verdict.violations.append(f"proves little: the store's file tells of claims {claims}")
    if moves and all(len(set(writers)) < 2 for writers in claims):
        verdict.violations.append("no session was claimed by a second front")


async def _check_books(stage: Stage, verdict: Verdict) -> None:
    """What fronts accepted has ended, and their books agree."""
    for front in stage.fronts:
        if not front.alive:
            continue
        end = time.monotonic() + 60.0
        while True:
            told = await front.metrics()
            open_ = (told["laneway_events_pending"], told["laneway_conservation_difference"])
            if open_ == (0.0, 0.0):
                break
            if time.monotonic() > end:
                verdict.violations.append(
                    f"{front.name} has {open_[0]:g} events open, and its books differ by {open_[1]:g}"
                )
                break
            await asyncio.sleep(0.1)
