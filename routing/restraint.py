"""What a client keeps back from an engine that refuses most of it: new events, and second tries.

Law of this file: critical events are never kept back, and nothing is once the time is over that the engine
named last. New events: so many are refused here, at once, that the engine gets about twice as many as it
takes (client-side throttling: Site Reliability Engineering, O'Reilly 2016, chapter 21); the rest tells when
it takes more. Second tries: each costs ten tokens, and every new event brings one, so that retries
are a tenth of the load and not four times of it (chapter 22, "retry budget"; gRFC A6). They come back at
times of their own, never before the engine's.

What a session is refused for its own sake, because it has too much in flight or sends too fast, is no
overload of the engine: there is a second try for each event that was taken, which makes the room. So a
client that sends a lot at once gets all of it in, and one that floods itself does not double its flood.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf
from typing import Final

from laneway.routing.lanes import Lane

__all__ = ["Restraint"]

_OWN: Final = "SESSION"
"""Reason of what a session is refused for its own sake."""
_PATIENCE: Final = 2.0
"""The chapter's K: events offered for each one that is taken."""
_UNHEARD: Final = 8.0
"""So many more may go out: a client that has hardly spoken has nothing to keep back."""
_MEMORY_S: Final = 10.0
"""What was that long ago counts 1/e. The chapter's two minutes would outlast most overloads."""
_MOST: Final = 0.9
"""Share of new events that may be kept back: where others flood, who held back all would never get its share again."""
_TRY: Final = 10.0
"""Tokens that a second try costs; a new event brings 1."""
_TOKENS: Final = 10 * _TRY
_TOKENS_PER_S: Final = _TRY
"""So that a client that rarely speaks may retry."""
_OWN_TRIES: Final = 1024
"""Second tries that taken events may leave."""
_JITTER: Final = 0.1


class _Lane:
    """What became of the events of one lane since the engine began to refuse them."""

    __slots__ = ("asked", "at", "taken", "until")

    def __init__(self) -> None:
        self.asked = self.taken = 0.0
        self.at = self.until = -inf

    def refuse(self, until: float, now: float) -> None:
        """One was refused, and the engine said until when."""
        if now >= self.until:  # it had not refused any for a while
            self.asked, self.taken, self.at = 0.0, 0.0, now
        self.until = max(self.until, until)

    def excess(self, now: float) -> float:
        """Count one more; return which share of them is too much."""
        if now > self.at:
            kept = exp((self.at - now) / _MEMORY_S)
            self.asked, self.taken, self.at = self.asked * kept, self.taken * kept, now
        self.asked += 1
        return min(_MOST, (self.asked - _PATIENCE * self.taken - _UNHEARD) / self.asked)


class Restraint:
    """One client's. Every call O(1); `now` in monotonic seconds.

    Args:
        random: uniform in [0, 1).
    """

    __slots__ = ("_lanes", "_own", "_random", "_tokens", "_tokens_at")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._lanes = tuple(_Lane() for _ in Lane)
        self._tokens, self._tokens_at = _TOKENS, -inf
        self._own = _OWN_TRIES

    def holds(self, lane: int, now: float) -> float | None:
        """Return for how many seconds a new event had better not be offered, or None: offer it."""
        one = self._lanes[lane]
        if now >= one.until or not lane:
            return None
        self._tokens = min(_TOKENS, self._tokens + 1)
        return one.until - now if self._random() < one.excess(now) else None

    def taken(self, lane: int) -> None:
        """An event was accepted."""
        self._lanes[lane].taken += 1
        if self._own < _OWN_TRIES:
            self._own += 1

    def refused(self, lane: int, reason: str, retry_after_ms: int, now: float, *, last: bool = False) -> float | None:
        """Return when to offer a refused event again, or None: not at all.

        Args:
            reason, retry_after_ms: the engine's. last: it was offered often enough.
        """
        wait_s = retry_after_ms / 1000
        self._lanes[lane].refuse(now + wait_s, now)
        if last or not (self._own_token() if reason == _OWN else self._token(now)):
            return None
        return now + wait_s * (1 + _JITTER * self._random())

    def _own_token(self) -> bool:
        self._own -= self._own > 0
        return self._own > 0

    def _token(self, now: float) -> bool:
        """Take a token for a second try, if there is one."""
        if now > self._tokens_at > -inf:
            self._tokens = min(_TOKENS, self._tokens + (now - self._tokens_at) * _TOKENS_PER_S)
        self._tokens_at = now
        if self._tokens < _TRY:
            return False
        self._tokens -= _TRY
        return True
