"""Noisy neighbours: what light sessions and light tenants wait with and without one at ten times its share.

A handler takes 4 ms and eight run at once: 2,000 a second for ten equal parties, so a share is 200. Nine
parties are light: 120 a second each, at random times. The tenth is silent ("without"), or sends ten times
its share, 2,000 a second ("10x"): as one session beside nine of the same tenant, or as a tenant with ten
sessions, each at its share, beside nine tenants with a session each. All events are of one lane, so that
what is measured is fairness inside it; "all lanes" has W4's mix instead, less the critical events.

A bare queue knows neither sessions nor tenants. It is measured with the same events.

Law of this file: the light parties' events are the same, at the same times, with and without the
neighbour; every event is accounted for (see `sweep`), and what light parties are refused is told.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table

from benchmarks.measure import Options, Row, percentile, ratio
from benchmarks.overload import mixed
from benchmarks.overload_rows import ENGINE, PRIORITY
from benchmarks.overload_served import GRPC
from benchmarks.repetitions import Figures, Runs, engine_cpu_us, planned
from benchmarks.sweep import NOMINAL_PER_S, Due, Load, Speaker, Subject, Tally, offered
from laneway.routing.lanes import Lane

__all__ = ["CASES", "LOADS", "WORKLOAD", "Case", "ratios", "run", "run_once", "table"]

WORKLOAD: Final = "neighbours"
LOADS: Final = ("without", "10x")
_PARTIES: Final = 10
_TIMES: Final = 10
_SHARE_PER_S: Final = NOMINAL_PER_S / _PARTIES
_LIGHT: Final = 0.6
"""Of its share, what a light party sends."""
_SEED: Final = 1


@dataclass(frozen=True, slots=True)
class Case:
    """Who is disturbed by whom: a row.

    Attributes:
        by: "session" or "tenant". lane: of event number k.
        crowd: light parties first; light: how many of the speakers are light.
    """

    subject: Subject
    by: str
    crowd: Sequence[Speaker]
    lane: Callable[[int], int]
    light: int = _PARTIES - 1

    @property
    def row(self) -> str:
        """Its name."""
        return f"{self.subject.row}, {self.by}"


def _one_lane(number: int) -> int:
    return Lane.HIGH


def _all_lanes(number: int) -> int:
    return max(mixed(number), Lane.HIGH)


_SESSIONS: Final = tuple(Speaker("t", f"s{number}") for number in range(_PARTIES))
_TENANTS: Final = (
    *(Speaker(f"t{number}", "s0") for number in range(_PARTIES - 1)),
    *(Speaker("noisy", f"s{number}") for number in range(_TIMES)),
)

CASES: Final = (
    Case(PRIORITY, "sessions", _SESSIONS, _one_lane),
    *(
        case
        for subject in (ENGINE, GRPC)
        for case in (
            Case(subject, "sessions", _SESSIONS, _one_lane),
            Case(subject, "tenants", _TENANTS, _one_lane),
            Case(subject, "sessions, all lanes", _SESSIONS, _all_lanes),
        )
    ),
)


def run(options: Options, status: Callable[[str], None]) -> list[Row]:
    """Measure every row with and without its neighbour. Raises RuntimeError if an event was lost."""
    runs, cases = Runs(WORKLOAD, "light_p99_ms", "light p99 ms"), {case.row: case for case in CASES}
    subjects = [Subject(case.row, case.subject.open, case.subject.slots) for case in CASES]
    for subject, load in planned(WORKLOAD, subjects, LOADS, options, status):
        runs.add(subject, load, asyncio.run(run_once(cases[subject.row], load, options.seconds)))
    return runs.rows()


async def run_once(case: Case, load: str, seconds: float) -> Figures:
    """One run of one row; its figures. Raises RuntimeError if an event was lost."""
    offer, tally = _load(case, load, seconds), Tally(case.crowd)
    subject = Subject(case.row, case.subject.open, case.subject.slots)
    watch = await offered(subject, offer, tally)
    count = len(offer.events())
    figures = {"offered": count, "lost": 0, "engine_cpu_us": engine_cpu_us(watch, count), **tally.notes}
    light = _party("light", tally, lambda due: due.who < case.light)
    noisy = _party("noisy", tally, lambda due: due.who >= case.light)
    over = tally.begun + offer.seconds
    served = sum(due.who >= case.light and at <= over for due, at in tally.done)
    return {**figures, **light, **noisy, "noisy_per_s": served / offer.seconds}


def _load(case: Case, load: str, seconds: float) -> Load:
    """The whole schedule, from which "without" leaves the neighbour's events out."""
    light_per_s, noisy_per_s = case.light * _SHARE_PER_S * _LIGHT, _TIMES * _SHARE_PER_S
    rate_per_s = light_per_s + noisy_per_s
    whose = _speakers(case, light_per_s / rate_per_s, max(1, round(rate_per_s * seconds)))
    if load == "without":
        whose = [who if who < case.light else -1 for who in whose]
    return Load(load, rate_per_s, seconds, case.lane, whose.__getitem__, case.crowd)


def _speakers(case: Case, light_share: float, count: int) -> list[int]:
    """Who speaks at each time of the schedule: always the same, at random among each kind."""
    chance = random.Random(_SEED)
    return [
        chance.randrange(case.light) if chance.random() < light_share else chance.randrange(case.light, len(case.crowd))
        for _ in range(count)
    ]


def _party(name: str, tally: Tally, wanted: Callable[[Due], bool]) -> dict[str, float]:
    late_s = tally.late_s(wanted)
    figures = {
        f"{name}_p50_ms": percentile(late_s, 0.5) * 1e3,
        f"{name}_p99_ms": percentile(late_s, 0.99) * 1e3,
        f"{name}_done": float(len(late_s)),
        f"{name}_refused": float(sum(map(wanted, (*tally.refused, *tally.expired)))),
    }
    for lane in (Lane.HIGH, Lane.NORMAL, Lane.LOW):
        of_lane = tally.late_s(lambda due, lane=lane: due.lane == lane and wanted(due))  # type: ignore[misc]
        figures[f"{name}_{lane.name.lower()}_p99_ms"] = percentile(of_lane, 0.99) * 1e3
    return figures


def ratios(rows: Sequence[Row], figure: str = "light_p99_ms") -> Mapping[str, float | None]:
    """Return, per row, the light parties' figure with the neighbour over the same without it."""
    names = dict.fromkeys(row.row.rpartition(" @")[0] for row in rows if row.workload == WORKLOAD)
    return {name: ratio(rows, WORKLOAD, f"{name} @10x", f"{name} @without", figure) for name in names}


def table(rows: Sequence[Row]) -> Table:
    """Return the rows for people: the light parties' waits and refusals, and what the neighbour gets."""
    made = Table(
        title=f"Neighbours: nine light parties at {_LIGHT:g} of their share, one at 10x; ms from scheduled time"
    )
    headings = (
        "row",
        "neighbour",
        "light p50",
        "light p99",
        "light refused",
        "x",
        "its p99",
        "it gets per s",
        "refused",
    )
    for at, heading in enumerate(headings):
        made.add_column(heading, justify="left" if at < 2 else "right", no_wrap=True)
    times = ratios(rows)
    for row in rows:
        name, _, load = row.row.rpartition(" @")
        found = row.extra
        noisy = load != "without"
        made.add_row(
            name if not noisy else "",
            load,
            *(f"{found[each]:,.1f}" for each in ("light_p50_ms", "light_p99_ms")),
            f"{found['light_refused']:,.0f}",
            f"{times[name]:.2f}" if noisy and times[name] is not None else "",
            *(f"{found[each]:,.0f}" if noisy else "" for each in ("noisy_p99_ms", "noisy_per_s", "noisy_refused")),
        )
    shown = [
        (name, [ratios(rows, f"light_{lane}_p99_ms")[name] for lane in ("high", "normal", "low")]) for name in times
    ]
    lanes = [
        f"{name}: " + " / ".join("-" if each is None else f"{each:.1f}" for each in found)
        for name, found in shown
        if "all lanes" in name
    ]
    made.caption = "light p99 with over without, per lane (high / normal / low): " + "; ".join(lanes)
    return made
