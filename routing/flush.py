"""When a link's data goes out: at once after silence, otherwise in company, never faster than agreed.

Law of this file: the first event after silence is due at once, and so is the first text of a message,
which somebody waits for. After that text, whose pieces merge, waits `flush_s` for company from when it
was first seen; an event that merges with nothing goes a gap of `flush_s / 5` after the last data frame
for each item that one had, `flush_s` at most: no wait when the link is idle, full company when it is
busy. Answers ride on the next frame; one of their own goes half a gap after they were seen and a gap
after the last frame; refusals that name a delay, and what comes with them, wait `flush_s`: whoever
refuses has no time for frames. A full frame's worth goes at once. A declared bandwidth is a token bucket
of a quarter second, kept as one time (GCRA). A link that asked for whole sentences may hold text back
for half a second, no longer.

While the engine is overloaded text that goes on waits longer, as with a network one or two grades
worse: fewer frames, fewer writes. What begins (the first text of a message), and every other event,
waits no longer than ever, and chunks stay as large as they are: smaller ones would be more items.
"""

from __future__ import annotations

from typing import Final

from laneway.routing.shedding import Shedding

__all__ = ["FlushTimer", "stretched_s"]

_NEVER: Final = float("-inf")
_BURST_S: Final = 0.25
_HOLD_S: Final = 0.5
_GAPS: Final = 5
"""Gaps in a flush window: 2 ms of 10, so at most 500 frames of events and 500 of answers a second
(docs/adr/0010-waiting-pays-for-text.md has the measurement)."""

_STRETCH: Final = (1.0, 2.5, 5.0, 5.0)
"""By level of overload: what FAIR and POOR are to GOOD in `quality.PLANS`."""
_STRETCHED_MOST_S: Final = 0.050


def stretched_s(wait_s: float, level: int) -> float:
    """Return how long text that goes on waits for company at a level of overload, instead of `wait_s`."""
    return max(wait_s, min(_STRETCHED_MOST_S, wait_s * _STRETCH[level]))


class FlushTimer:
    """Decides when the data of one link is due.

    Args:
        flush_s: longest wait for company, seconds.
        full: this many waiting events make a frame.
        pace_bytes_per_s: token rate, 0 = not paced.
        shedding: has the level of overload.
    """

    __slots__ = (
        "_due_at",
        "_frame_at",
        "_full",
        "_gap_s",
        "_held_at",
        "_held_head",
        "_pace",
        "_paced_until",
        "_sent_at",
        "_shedding",
        "flush_s",
    )

    def __init__(self, flush_s: float, full: int, pace_bytes_per_s: int, shedding: Shedding | None = None) -> None:
        self.flush_s = flush_s
        self._shedding = shedding or Shedding()
        self._full = full
        self._pace = pace_bytes_per_s
        self._due_at: float | None = None
        self._sent_at = self._frame_at = _NEVER
        self._gap_s = flush_s / _GAPS
        self._paced_until = _NEVER
        self._held_at: float | None = None
        self._held_head = 0

    @property
    def due_at(self) -> float | None:
        """When data is due, or None if it was not looked at since the last sending."""
        return self._due_at

    @property
    def patient(self) -> bool:
        """True if data was last seen to wait for company; an event that merges with nothing is due earlier."""
        return self._due_at is not None and self._due_at > self._sent_at + self._gap_s

    def answers_at(self, now: float, *, refusing: bool = False) -> float:
        """Return when answers first seen now may go in a frame of their own; `refusing`: they name a delay."""
        gap_s = self.flush_s / _GAPS
        return max(now + (self.flush_s if refusing else gap_s / 2), self._frame_at + gap_s)

    def due(self, now: float, pending: int, head: int, *, force: bool, alone: bool, opens: bool = False) -> bool:
        """Return whether data goes now, with `pending` seqs waiting up to seq `head`.

        `force` = a frame goes anyway; `alone` = an event that merges with nothing is among them; `opens` = it is
        the first text of a message.
        """
        company_s = self._gap_s if alone else self.flush_s
        if self._paced_until > now:
            self._due_at = self._paced_until
            return False
        if self._held_at is not None:
            if head == self._held_head:
                self._due_at = self._held_at + _HOLD_S
                return now >= self._due_at
            self._due_at = min(self._held_at + _HOLD_S, max(self._held_at, self._sent_at + company_s))
        elif self._due_at is None:
            level = self._shedding.level
            wait_s = stretched_s(self.flush_s, level) if level else self.flush_s
            self._due_at = now if now - self._sent_at >= wait_s else now + wait_s
        if alone:
            self._due_at = min(self._due_at, now if opens else max(now, self._sent_at + company_s))
        return force or now >= self._due_at or pending >= self._full

    def nothing(self) -> None:
        """There is nothing that may be sent."""
        self._due_at = None

    def room(self, now: float, most: int) -> int:
        """Return how many bytes may go now, at least 1 and at most `most`."""
        if not self._pace:
            return most
        since = max(self._paced_until, now - _BURST_S)
        return min(most, max(1, int((now - since) * self._pace)))

    def went(self, now: float) -> None:
        """A frame of any kind went."""
        self._frame_at = now

    def sent(self, now: float, size: int, items: int, *, more: bool) -> None:
        """A data frame of `items` with `size` bytes of bodies went; `more` = what is left is due as well."""
        self._gap_s = self.flush_s * (items / _GAPS) if items < _GAPS else self.flush_s
        if self._pace:
            self._paced_until = max(self._paced_until, now - _BURST_S) + size / self._pace
        self._sent_at = now
        self._due_at = max(now, self._paced_until) if more else None

    def may_hold(self, now: float) -> bool:
        """Return whether text may (still) be held back for its sentence end."""
        return self._held_at is None or now - self._held_at < _HOLD_S

    @property
    def holding(self) -> bool:
        """True while text is held back."""
        return self._held_at is not None

    def hold(self, now: float, head: int, *, afresh: bool) -> None:
        """Text up to seq `head` is held back; `afresh` = something went before it."""
        if self._held_at is None or afresh:
            self._held_at = now
        self._held_head = head
        self._due_at = self._held_at + _HOLD_S

    def release(self) -> None:
        """Nothing is held back any more."""
        self._held_at = None
