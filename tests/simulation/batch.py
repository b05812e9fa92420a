"""Many seeds: each one's weather follows from its number, and together they must have seen everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.simulation.faults import CALM, Weather
from tests.simulation.world import Report, Shape, simulate

__all__ = ["Total", "missing", "run_seed", "run_seeds", "setting"]

_SETTINGS: Final[tuple[tuple[str, Weather, Shape], ...]] = (
    ("calm", CALM, Shape()),
    ("rough", Weather(), Shape()),
    ("crashes", Weather(crash_every_s=1.0), Shape()),
    ("bad network", Weather(cut=0.08, stall=0.03, blackhole=0.02, lost_commit=0, torn_commit=0), Shape(events=12)),
    ("bad disk", Weather(slow_commit=0.05, lost_commit=0.04, torn_commit=0.04, failed_read=0.02), Shape()),
    ("crowd", Weather(crash_every_s=3.0), Shape(tenants=3, sessions=3, clients=1, events=12)),
    ("small logs", Weather(cut=0.05), Shape(ring_events=24, ring_bytes=2048, retention_bytes=12_288, events=20)),
    ("takeovers", Weather(zombie_every_s=1.5), Shape()),
)

EXPECTED: Final = (
    "kill -9", "takeover", "handler killed the process", "commit survived the crash", "dead letter", "slow commit",
    "lost commit", "torn commit", "failed read", "cut", "frames lost under way", "stall", "blackhole",
    "reader stopped", "client forgot everything", "client of another epoch", "handler failed", "handler slow",
    "handler stubborn", "cancel ignored", "tool ok", "tool HANDLER_FAILED",
)  # fmt: skip
"""Faults that a batch must have seen to prove anything."""

EXPECTED_OUTCOMES: Final = (
    "event handled", "event failed", "event cancelled", "event expired", "welcome new", "welcome resumed",
    "welcome failed:EPOCH_MISMATCH", "welcome failed:OUT_OF_WINDOW", "voided items", "gaps",
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
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Add one seed."""
        self.seeds += 1
        for name in ("sent", "accepted", "handled", "issued", "given", "lives", "virtual_s"):
            setattr(self, name, getattr(self, name) + getattr(report, name))
        self.faults.update(report.faults)
        self.outcomes.update(report.outcomes)
        if report.violations:
            self.failures.append(report)


def setting(seed: int) -> tuple[str, Weather, Shape]:
    """Return the name, weather and shape of a seed's world."""
    return _SETTINGS[seed % len(_SETTINGS)]


def run_seed(seed: int) -> Report:
    """Run one seed in its setting; an exception in the world is a violation too."""
    _, weather, shape = setting(seed)
    try:
        return simulate(seed, weather, shape)
    except Exception as error:
        return Report(seed, [f"the world ended with {type(error).__name__}: {error}"], Counter())


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
