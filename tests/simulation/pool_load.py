"""A pool under load in virtual time: the real decisions of a dispatcher, workers that only take time.

Law of this file: seeded, and nothing but `DispatchCore` decides. A worker is stopped at its event's
deadline, as a cell does it; work stopped so was for nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any

from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy, PoolRoute
from laneway.routing.envelope import DEADLINE, LANE, NO_DEADLINE, SESSION, Envelope, envelope
from laneway.routing.lanes import LANE_NAMES, Lane
from laneway.routing.limits import AdmissionPolicy

__all__ = ["Load", "Tally", "run_load"]


@dataclass(frozen=True)
class Load:
    """What comes in, and what serves it.

    Attributes:
        factor: of what the workers can serve. seconds: of load; then the queue runs empty.
        mix: lane -> share of the events.
        patience_s: for so long somebody waits for the answer. told: the event carries it as its deadline.
        noisy_share: of all events come from session 0.
        service_s: mean time of a handler, lognormal with sigma 1 as tools and models have it.
    """

    factor: float
    seconds: float = 20.0
    target_s: float = 1.0
    workers: int = 40
    service_s: float = 0.05
    sessions: int = 100
    tenants: int = 10
    patience_s: float = 3.0
    told: bool = False
    noisy_share: float = 0.0
    mix: tuple[tuple[Lane, float], ...] = ((Lane.HIGH, 0.2), (Lane.NORMAL, 0.6), (Lane.LOW, 0.2))
    seed: int = 1
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def capacity(self) -> float:
        """Events a second that the workers can serve."""
        return self.workers / self.service_s


@dataclass
class Tally:
    """What came of it, per lane."""

    offered: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    in_time: Counter[int] = field(default_factory=Counter)
    late: Counter[int] = field(default_factory=Counter)
    expired: Counter[int] = field(default_factory=Counter)
    waits: dict[int, list[float]] = field(default_factory=lambda: {lane: [] for lane in Lane})
    retry_ms: list[int] = field(default_factory=list)
    limited: bool = False
    light_refused: int = 0
    light_wait_s: float = 0.0
    """The longest wait of an event that is not of session 0."""

    def wait_s(self, lane: int, quantile: float = 0.99) -> float:
        """Wait of what was handled."""
        waits = sorted(self.waits[lane])
        return waits[min(len(waits) - 1, int(quantile * len(waits)))] if waits else 0.0

    def refused_share(self, lane: int) -> float:
        """Refused of offered."""
        return self.refused[lane] / max(1, self.offered[lane])


def run_load(load: Load) -> Tally:
    """Offer the load and tell what came of it; at the end nothing is pending."""
    random = Random(load.seed)
    kinds = KindTable(tuple(Kind(name.upper(), lane, IN) for name, lane in zip(LANE_NAMES, Lane, strict=True)))
    free = AdmissionPolicy(**{"rate_per_s": inf, **load.policy})
    core = DispatchCore(kinds, DispatchPolicy(admission=free))
    core.add_pool(PoolRoute("p", tuple(name.upper() for name in LANE_NAMES), target_wait_s=load.target_s))
    tally, running = Tally(), list[tuple[float, int, bool, Envelope]]()
    now = number = 0
    lanes, weights = zip(*load.mix, strict=True)
    arrives_at = random.expovariate(load.capacity * load.factor)
    while arrives_at < load.seconds or running:
        if arrives_at < load.seconds and (not running or arrives_at <= running[0][0]):
            now, number = arrives_at, number + 1
            arrives_at = now + random.expovariate(load.capacity * load.factor)
            lane = random.choices(lanes, weights)[0]
            _offer(core, load, tally, random, number, lane, now)
        else:
            now, _, in_time, env = heapq.heappop(running)
            (tally.in_time if in_time else tally.late)[env[LANE]] += 1
            core.done([env])
        for env in core.take("p", load.workers - len(running), now):
            tally.waits[env[LANE]].append(now - env[12])
            if env[SESSION] != "s0":
                tally.light_wait_s = max(tally.light_wait_s, now - env[12])
            ends_at = now + random.lognormvariate(-0.5, 1.0) * load.service_s
            stopped_at = min(ends_at, env[DEADLINE])
            heapq.heappush(running, (stopped_at, env[1], ends_at <= env[12] + load.patience_s, env))
        for env in core.expired():
            tally.expired[env[LANE]] += 1
        tally.limited = tally.limited or bool(core.statistics().limits if number % 100 == 0 else ())
    assert core.statistics().pending == 0
    return tally


def _offer(core: DispatchCore, load: Load, tally: Tally, random: Random, number: int, lane: int, now: float) -> None:
    session = 0 if random.random() < load.noisy_share else random.randrange(load.sessions)
    deadline = now + load.patience_s if load.told else NO_DEADLINE
    env = envelope(
        LANE_NAMES[lane].upper(),
        producer="p",
        counter=number,
        tenant=f"t{session % load.tenants}",
        session=f"s{session}",
        lane=lane,
        deadline=deadline,
        accepted=now,
    )
    tally.offered[lane] += 1
    (answer,) = core.offer([env], now)
    if not isinstance(answer, tuple):
        tally.refused[lane] += 1
        tally.light_refused += session > 0
        tally.retry_ms.append(answer.retry_after_ms or 0)
