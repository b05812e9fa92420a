"""How many hosts a pool should have: up when its events wait, down after a long calm.

Law of this file: up in seconds, by at most a doubling; down one host at a time, and only if what was
busy at the worst moment of a long calm fits well into the hosts that remain. Between the two lies a
band in which nothing changes, and a step down that had to be taken back doubles the next calm, so a
constant load comes to rest. While hosts come or go nothing is decided: they have not helped yet.

What is watched is the wait in front of the pool, not how busy its processes look. In simulations of
limiters only the queue wait stayed right under heavy-tailed service (goodput 792 of 800 a second,
against 220 and 495 by two rules on latency). The paces are those of known autoscalers: KEDA cools down
for 300 s, a Kubernetes HPA looks back 300 s before it goes down and about doubles at most in one step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from laneway.routing.errors import ConfigError

__all__ = ["Decision", "PoolLoad", "Scaling", "ScalingPolicy"]

_FULL: Final = 0.5
"""Below this share of busy slots more hosts help nobody: what waits, waits for one key or one session."""
_MOST_PATIENCE: Final = 16


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """Bounds and paces of one pool.

    Attributes:
        min_hosts, max_hosts: never fewer, never more; at least 1.
        wait_target_s: the longest waiting event may be this old. Ten times the 20 ms at which the
            limiters of tools act, since a host costs seconds and theirs are to act first.
        waiting_per_slot: more events than this wait for each slot: too many, however young they are.
        up_after_s: pressure must last so long. up_pause_s: between two steps up; a host needs 3 to 9 s.
        drained_s: a backlog that shrinks so fast that it is gone within this needs no host more.
        settle_s: hosts that come or go stop all decisions for so long at most.
        down_after_s: calm before the first step down; down_pause_s: before the next ones.
        down_share: of the slots that remain after a step down, what may have been in use at the worst.
    """

    min_hosts: int = 1
    max_hosts: int = 1
    wait_target_s: float = 0.2
    waiting_per_slot: float = 4.0
    up_after_s: float = 3.0
    up_pause_s: float = 10.0
    drained_s: float = 30.0
    settle_s: float = 30.0
    down_after_s: float = 300.0
    down_pause_s: float = 60.0
    down_share: float = 0.6

    def __post_init__(self) -> None:
        """Raise ConfigError for bounds that cannot be kept."""
        if not 1 <= self.min_hosts <= self.max_hosts:
            raise ConfigError(
                f"a pool has at least 1 host and at most max_hosts, not {self.min_hosts} to {self.max_hosts}"
            )
        if not 0 < self.down_share < 1 or self.wait_target_s <= 0 or self.down_after_s <= 0:
            raise ConfigError("down_share lies between 0 and 1; wait_target_s and down_after_s are more than 0")


class PoolLoad(NamedTuple):
    """A pool at one moment.

    Attributes:
        waiting: events that no handler has begun. oldest_wait_s: of those, the longest wait.
        busy: events in handlers. slots: handlers that the ready hosts can run at once.
        wanted: hosts asked for. ready: hosts that take events. pending: hosts that are starting.
    """

    waiting: int
    oldest_wait_s: float
    busy: int
    slots: int
    wanted: int
    ready: int
    pending: int = 0


class Decision(NamedTuple):
    """How many hosts there should be, and why; no reason = as before."""

    hosts: int
    reason: str = ""


class Scaling:
    """Decides for one pool, one tick after another. O(1).

    Args:
        now: monotonic seconds of the begin; nothing goes down before a whole calm has passed since.
    """

    __slots__ = (
        "_calm_since",
        "_changed_at",
        "_down_at",
        "_patience",
        "_pressed_since",
        "_steps_down",
        "_unsettled_since",
        "_waiting_then",
        "policy",
    )

    def __init__(self, policy: ScalingPolicy, now: float) -> None:
        self.policy = policy
        self._changed_at = -math.inf
        self._down_at = -math.inf
        self._pressed_since: float | None = None
        self._waiting_then = 0
        self._calm_since: float | None = now
        self._unsettled_since: float | None = None
        self._steps_down = 0
        self._patience = 1

    def decide(self, load: PoolLoad, now: float) -> Decision:
        """Return how many hosts there should be; ask every second or so, with `now` never going back."""
        bounded = min(max(load.wanted, self.policy.min_hosts), self.policy.max_hosts)
        if bounded != load.wanted:
            return self._changed(bounded, now, f"{load.wanted} hosts are outside of its bounds")
        if not self._settled(load, now):
            self._pressed_since = self._calm_since = None
            return Decision(load.wanted)
        why = self._pressure(load)
        if why:
            self._calm_since, self._steps_down = None, 0
            return self._up(load, now, why)
        self._pressed_since = None
        return self._down(load, now)

    def _settled(self, load: PoolLoad, now: float) -> bool:
        if load.ready == load.wanted and not load.pending:
            self._unsettled_since = None
            return True
        if self._unsettled_since is None:
            self._unsettled_since = now
        return now - self._unsettled_since >= self.policy.settle_s and load.ready <= load.wanted

    def _pressure(self, load: PoolLoad) -> str:
        """Say what is too much, or nothing."""
        policy = self.policy
        if not load.waiting or load.busy < load.slots * _FULL:
            return ""
        if load.oldest_wait_s > policy.wait_target_s:
            return f"events wait {load.oldest_wait_s:.2f} s, more than {policy.wait_target_s:g} s"
        if load.waiting > policy.waiting_per_slot * load.slots:
            return f"{load.waiting} events wait for {load.slots} slots"
        return ""

    def _up(self, load: PoolLoad, now: float, why: str) -> Decision:
        policy = self.policy
        if self._pressed_since is None:
            self._pressed_since, self._waiting_then = now, load.waiting
        lasted_s = now - self._pressed_since
        early = lasted_s < policy.up_after_s or now - self._changed_at < policy.up_pause_s
        if early or load.wanted >= policy.max_hosts or self._drains(load, lasted_s):
            return Decision(load.wanted)
        if now - self._down_at < self._patience * policy.down_after_s:  # the step down was a mistake
            self._patience = min(self._patience * 2, _MOST_PATIENCE)
        elif self._down_at > -math.inf:
            self._patience = 1
        return self._changed(self._more(load), now, f"{why}, for {lasted_s:.0f} s")

    def _drains(self, load: PoolLoad, lasted_s: float) -> bool:
        """True if the hosts there are catch up by themselves."""
        per_s = (self._waiting_then - load.waiting) / lasted_s if lasted_s > 0 else 0.0
        return per_s > 0 and load.waiting <= per_s * self.policy.drained_s

    def _more(self, load: PoolLoad) -> int:
        """Hosts enough to run at once all there is; one more at least, twice as many at most."""
        per_host = load.slots / load.ready if load.ready and load.slots else math.inf
        enough = math.ceil((load.busy + load.waiting) / per_host) if per_host < math.inf else 0
        return min(max(load.wanted + 1, min(enough, 2 * load.wanted)), self.policy.max_hosts)

    def _down(self, load: PoolLoad, now: float) -> Decision:
        policy = self.policy
        remaining = load.slots * (load.wanted - 1) / load.ready if load.ready else 0.0
        calm = (
            load.ready == load.wanted > policy.min_hosts
            and load.oldest_wait_s <= policy.wait_target_s / 2
            and load.busy + load.waiting <= remaining * policy.down_share
        )
        if not calm:
            self._calm_since, self._steps_down = None, 0
            return Decision(load.wanted)
        if self._calm_since is None:
            self._calm_since = now
        calm_s = now - self._calm_since
        enough_s = policy.down_pause_s if self._steps_down else policy.down_after_s
        if calm_s < enough_s * self._patience:
            return Decision(load.wanted)
        self._down_at, self._steps_down = now, self._steps_down + 1
        why = f"at most {remaining * policy.down_share:.0f} of {load.slots} slots were in use for {calm_s:.0f} s"
        return self._changed(load.wanted - 1, now, why)

    def _changed(self, hosts: int, now: float, why: str) -> Decision:
        self._changed_at = now
        self._pressed_since = self._calm_since = None
        return Decision(hosts, why)
