"""Many seeds: each one's weather follows from its number, and together they must have seen everything."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from tests.simulation.cluster import simulate_cluster
from tests.simulation.faults import CALM, Weather
from tests.simulation.plants import planted
from tests.simulation.shape import Shape
from tests.simulation.swarm import swarm
from tests.simulation.world import Report, simulate

__all__ = ["EXPECTED", "SETTINGS", "Setting", "Total", "command", "missing", "run_seed", "run_seeds", "setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A kind of world; `fronts` > 1 is a cluster over one store."""

    name: str
    weather: Weather
    shape: Shape
    fronts: int = 1


_FIXED: Final[tuple[tuple[str, Weather, Shape], ...]] = (
    ("calm", CALM, Shape()),
    ("rough", Weather(), Shape()),
    ("crashes", Weather(crash_every_s=1.0), Shape()),
    ("bad network", Weather(cut=0.08, stall=0.03, blackhole=0.02, lost_commit=0, torn_commit=0), Shape(events=24)),
    (
        "bad disk",
        Weather(slow_commit=0.05, lost_commit=0.04, torn_commit=0.04, failed_read=0.02, full_every_s=2, slow_every_s=3),
        Shape(),
    ),
    ("crowd", Weather(crash_every_s=3.0), Shape(tenants=3, sessions=3, clients=1)),
    ("small logs", Weather(cut=0.05), Shape(ring_events=24, ring_bytes=2048, retention_bytes=12_288)),
    ("takeovers", Weather(zombie_every_s=1.5, freeze_every_s=4), Shape()),
    ("overload", Weather(rush_every_s=1.0, overload_every_s=0.7), Shape(events=72, pace_s=0.02, echo_s=0.3)),
    ("lying disk", Weather(power_every_s=1.5), Shape()),
    ("clocks", Weather(pause_every_s=2.0, suspend_every_s=2.0), Shape()),
)
_SWARMS: Final = 4
SETTINGS: Final = len(_FIXED) + _SWARMS + 1
"""So many seeds in a row see every kind of world: the fixed ones, random mixes, and one of several fronts."""

EXPECTED: Final = (
    "kill -9", "takeover", "handler killed the process", "commit survived the crash", "dead letter", "slow commit",
    "lost commit", "torn commit", "failed read", "cut", "frames lost under way", "stall", "blackhole",
    "reader stopped", "client forgot everything", "client of another epoch", "handler failed", "handler slow",
    "handler stubborn", "cancel ignored", "tool ok", "tool TOOL_FAILED", "zombie woke",
    "process stopped for a while", "machine suspended", "wall clock jumped", "all reconnected at once", "disk full",
    "slow disk", "client posts", "client sent a burst", "frame doubled", "frame reordered", "client never acks",
    "wrong ack", "wrong ack refused", "wire cut", "power lost", "overload",
    "overload level 1", "overload level 2", "overload level 3",
)  # fmt: skip
"""Faults that a batch must have seen to prove anything."""

EXPECTED_OUTCOMES: Final = (
    "event handled", "event failed", "event cancelled", "event expired", "welcome new", "welcome resumed",
    "welcome failed:EPOCH_MISMATCH", "welcome failed:OUT_OF_WINDOW", "voided items", "gaps", "runs PAUSED",
)  # fmt: skip


@dataclass(slots=True)
class Total:
    """A batch's sums."""

    seeds: int = 0
    sent: int = 0
    accepted: int = 0
    handled: int = 0
    issued: int = 0
    given: int = 0
    lives: int = 0
    virtual_s: float = 0.0
    slowest: tuple[float, int] = (0.0, 0)
    """Virtual seconds of the longest run, and its seed."""
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[Report] = field(default_factory=list)

    @property
    def events(self) -> int:
        """Events sent by clients and events numbered by sessions."""
        return self.sent + self.issued

    def add(self, report: Report) -> None:
        """Add one seed."""
        self.seeds += 1
        for name in ("sent", "accepted", "handled", "issued", "given", "lives", "virtual_s"):
            setattr(self, name, getattr(self, name) + getattr(report, name))
        self.slowest = max(self.slowest, (report.virtual_s, report.seed))
        self.faults.update(report.faults)
        self.outcomes.update(report.outcomes)
        if report.violations:
            self.failures.append(report)


def setting(seed: int) -> Setting:
    """Return a seed's world: everything follows from its number."""
    place = seed % SETTINGS
    if place < len(_FIXED):
        return Setting(*_FIXED[place])
    weather, shape = swarm(seed)
    if place < len(_FIXED) + _SWARMS:
        return Setting("swarm", weather, shape)
    weather = replace(weather, power_every_s=0.0)  # one disk that lies, of one machine: not that of several
    return Setting("swarm over fronts", weather, replace(shape, events=shape.events // 2), fronts=3)


def run_seed(seed: int, plant: str = "") -> Report:
    """Run one seed in its setting, with a bug planted or as it is; an exception in the world is a violation too."""
    world = setting(seed)
    logged, run = logging.root.manager.disable, simulate if world.fronts == 1 else simulate_cluster
    logging.disable(logging.CRITICAL)  # handlers fail by the hundred here, and each would be told with its traceback
    try:
        with planted(plant):
            return run(seed, world.weather, world.shape)
    except Exception as error:
        return Report(seed, [f"the world ended with {type(error).__name__}: {error}"], Counter())
    finally:
        logging.disable(logged)


def command(seed: int, plant: str = "") -> str:
    """Return the command that runs this seed again."""
    return f"python -m tests.simulation --seed {seed}" + (f" --plant {plant}" if plant else "")


def run_seeds(seeds: Iterable[int], progress: Callable[[], None] = lambda: None) -> Total:
    """Run seeds one after the other."""
    total = Total()
    for seed in seeds:
        total.add(run_seed(seed))
        progress()
    return total


def missing(total: Total) -> list[str]:
    """Return what a large enough batch should have seen and did not, so that success would prove little."""
    found = [f"fault {name!r} never happened" for name in EXPECTED if not total.faults[name]]
    found += [f"{name!r} never happened" for name in EXPECTED_OUTCOMES if not total.outcomes[name]]
    if total.accepted < 0.8 * total.sent:
        found.append(f"only {total.accepted} of {total.sent} events were accepted")
    if total.handled < 0.5 * total.accepted:
        found.append(f"only {total.handled} of {total.accepted} accepted events were handled")
    return found
