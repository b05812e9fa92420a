"""How long to wait before trying again: exponential growth with full jitter.

Law of this file: the wait is uniform in [0, min(cap, base * 2^attempt)]. Full jitter spreads a
crowd that failed at one moment evenly over the whole interval; of the usual variants it finishes
with the fewest calls (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from laneway.routing.errors import LocalProtocolError

__all__ = ["Backoff", "full_jitter"]

_MAX_EXPONENT: Final = 62
"""Beyond it every base above a nanosecond is past any sensible cap, and 2.0**1024 would overflow."""


def full_jitter(attempt: int, base_s: float, cap_s: float, random: Callable[[], float]) -> float:
    """Return the seconds to wait before retry number `attempt`, counted from 0.

    Args:
        attempt: how many waits went before this one.
        base_s: upper bound of the first wait.
        cap_s: upper bound of every wait.
        random: uniform in [0, 1).

    Raises:
        LocalProtocolError: attempt below 0.
    """
    if attempt < 0:
        raise LocalProtocolError(f"attempt {attempt} is below 0; count waits from 0")
    ceiling_s: float = min(cap_s, base_s * 2.0 ** min(attempt, _MAX_EXPONENT))
    return random() * ceiling_s


class Backoff:
    """The waits of one reconnecting party; starts over once a connection proved healthy.

    A connection counts as healthy after `healthy_s`: resetting at once would let a server that
    accepts and drops be hammered at the base rate.

    Args:
        random: uniform in [0, 1).
        base_s: upper bound of the first wait.
        cap_s: upper bound of every wait, except where the server dictates a longer one.
        healthy_s: how long a connection must last to forget earlier failures.
    """

    __slots__ = ("_attempt", "_base_s", "_cap_s", "_healthy_s", "_random", "_up_since")

    def __init__(
        self, random: Callable[[], float], *, base_s: float = 0.5, cap_s: float = 20.0, healthy_s: float = 60.0
    ) -> None:
        self._random = random
        self._base_s = base_s
        self._cap_s = cap_s
        self._healthy_s = healthy_s
        self._attempt = 0
        self._up_since: float | None = None

    @property
    def attempt(self) -> int:
        """Waits handed out since the last healthy connection."""
        return self._attempt

    def connected(self, now: float) -> None:
        """A connection stands since `now`; repeated calls keep the first time."""
        if self._up_since is None:
            self._up_since = now

    def failed(self, now: float, retry_after_s: float = 0.0) -> float:
        """A connection or an attempt ended; return the seconds to wait before the next.

        Args:
            now: monotonic seconds.
            retry_after_s: what the server asked for; the wait is never shorter, and the jitter comes
                on top, so that all who were told the same do not return together.
        """
        if self._up_since is not None and now - self._up_since >= self._healthy_s:
            self._attempt = 0
        self._up_since = None
        wait_s = full_jitter(self._attempt, self._base_s, self._cap_s, self._random)
        self._attempt += 1
        return max(0.0, retry_after_s) + wait_s
