"""Rates by GCRA: one float per key says when the key is back at rest.

Law of this file: in any span of t seconds a key is granted at most `burst + rate * t` units, and
a refusal says after how many seconds the same offer would be granted. A refusal costs nothing, so
hammering does not prolong the wait.

The generic cell rate algorithm, virtual scheduling form (ITU-T I.371, annex A): the state is the
*theoretical arrival time*, the moment at which all granted units are paid for. It is the token
bucket with one float instead of two, no timer, and an exact retry-after for free.
"""

from __future__ import annotations

from typing import Final

from laneway.routing.errors import ConfigError

__all__ = ["SLACK_S", "Gcra"]

SLACK_S: Final = 1e-6
"""Forgives rounding: who waits exactly as long as told is granted. Below any clock's resolution that matters."""


class Gcra:
    """One rate: `rate_per_s` units in the long run, `burst` at once. Holds no key's state.

    An offer above the whole burst is granted when the key is at rest and then paid off in full, so
    that a large event is slow but never impossible.

    Args:
        rate_per_s: above 0; infinity grants everything.
        burst: at least 1 unit.

    Raises:
        ConfigError: a value out of range.
    """

    __slots__ = ("interval_s", "tolerance_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        if not rate_per_s > 0.0:
            raise ConfigError(f"rate {rate_per_s!r} per second is not above 0; use infinity for no limit")
        if not burst >= 1.0:
            raise ConfigError(f"burst {burst!r} is below 1, so nothing would ever be granted; use 1 or more")
        self.interval_s = 1.0 / rate_per_s
        """Seconds that one unit takes."""
        self.tolerance_s = burst * self.interval_s
        """How far ahead of now the theoretical arrival time may run."""

    def offer(self, arrival: float, now: float, cost: float = 1.0) -> tuple[float, float]:
        """Return (new theoretical arrival time, seconds to wait).

        A wait of 0.0 means granted; else nothing is charged and the time comes back unchanged.

        Args:
            arrival: the key's state; any value not above `now` (0.0, -infinity) is a key at rest.
            now: monotonic seconds.
            cost: units asked for, at least 0.
        """
        start = arrival if arrival > now else now
        after = start + cost * self.interval_s
        allowed_s = max(self.tolerance_s, cost * self.interval_s)
        wait_s = after - now - allowed_s
        return (arrival, wait_s) if wait_s > SLACK_S else (after, 0.0)
