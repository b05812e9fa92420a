"""Seeded faults, counted: a run that claims to have survived faults must show that they happened."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["CALM", "Faults", "Weather"]


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad a simulated world is; probabilities per operation, times in seconds."""

    commit_s: tuple[float, float] = (0.0005, 0.006)
    """Range of one group commit."""
    slow_commit: float = 0.01
    """Chance that a commit takes 0.5 s."""
    lost_commit: float = 0.005
    """Chance that an append fails without having written."""
    torn_commit: float = 0.005
    """Chance that an append fails although it has written."""
    latency_s: tuple[float, float] = (0.001, 0.05)
    """Range of one way through the network."""
    cut: float = 0.02
    """Chance per frame that the connection breaks, losing what is under way."""
    stall: float = 0.01
    """Chance per frame that the network stands still for 1 s."""
    blackhole: float = 0.005
    """Chance per frame that the connection goes silent without an end, both ways."""
    posts: float = 0.3
    """Chance that a client POSTs what it says instead of holding a connection for it."""
    double: float = 0.03
    """Chance per POST that it arrives twice."""
    reorder: float = 0.05
    """Chance per POST without events that later ones overtake it."""
    forget: float = 0.04
    """Chance per connection that a client lost its memory."""
    other_epoch: float = 0.02
    """Chance per connection that a client comes with the cursor of another epoch."""
    failed_read: float = 0.002
    """Chance that a read or a claim fails."""
    mute: float = 0.05
    """Chance per client that it neither acks nor grants although it said that it would."""
    wrong_ack: float = 0.005
    """Chance per ack that it names what was never sent, another epoch, or less than before."""
    wall_jumps: bool = True
    """Whether the wall clock is set an hour forward and back while it runs."""
    crash_every_s: float = 0.0
    """Mean time between kill -9 of the engine; 0 = never, as for all that follow."""
    zombie_every_s: float = 0.0
    """Mean time between takeovers by a new engine while the old one still runs."""
    freeze_every_s: float = 0.0
    """Mean time between takeovers while the old engine stands still; it goes on after 10 s."""
    pause_every_s: float = 0.0
    """Mean time between stops of the engine's process for 0.5 to 6 s, as by SIGSTOP and SIGCONT."""
    suspend_every_s: float = 0.0
    """Mean time between jumps of the monotonic clock of 0.5 to 8 s in which nothing runs."""
    rush_every_s: float = 0.0
    """Mean time between moments when all clients lose their connections and come back at once."""
    full_every_s: float = 0.0
    """Mean time between disks that are full for 0.2 to 1.5 s."""
    slow_every_s: float = 0.0
    """Mean time between disks whose commits take 0.5 s each, for 1 to 3 s."""
    power_every_s: float = 0.0
    """Mean time between power failures of a machine whose disk lied for 0.2 to 1.5 s."""
    overload_every_s: float = 0.0
    """Mean time between spells of 0.2 to 3 s on a level of overload, each time another one."""


CALM = Weather(
    slow_commit=0, lost_commit=0, torn_commit=0, cut=0, stall=0, blackhole=0, failed_read=0, forget=0, other_epoch=0,
    posts=0, double=0, reorder=0, mute=0, wrong_ack=0, wall_jumps=False,
)  # fmt: skip
"""Nothing breaks any more: what a run ends in, so that it can come to rest."""


@dataclass(slots=True)
class Faults:
    """One run's random source and what it made happen."""

    seed: int
    weather: Weather = field(default_factory=Weather)
    fired: Counter[str] = field(default_factory=Counter)
    rng: random.Random = field(init=False)
    disk_full: bool = False
    disk_slow: bool = False

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def happens(self, name: str, chance: float) -> bool:
        """True with the given probability; counted under `name` if so."""
        if self.rng.random() < chance:
            self.fired[name] += 1
            return True
        return False

    def between(self, bounds: tuple[float, float]) -> float:
        """A uniform value within bounds."""
        return self.rng.uniform(*bounds)

    async def pause(self, low_s: float, high_s: float) -> None:
        """Let some time pass."""
        await asyncio.sleep(self.rng.uniform(low_s, high_s))
