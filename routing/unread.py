"""What becomes of a run that nobody reads: how far it may go on, and what happens there.

Law of this file: a producer that can wait is made to wait; a policy is for one that cannot. A model
behind HTTP generates whether it is read or not, so a run over it either goes on into the log
(`continue`) or gives the model up (`close`); both within a bound in bytes, told as positions of the
data stream (ADR 5). What was said up to there is numbered and logged either way, and read later.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

__all__ = ["POLICIES", "Unread", "UnreadRuns"]

Unread: TypeAlias = Literal["pause", "continue", "close"]
"""pause: the producer waits at its next event. continue: it goes on, spilling into the log.
close: it goes on as far as the session's budget; then the run ends PAUSED and its model is let go."""

POLICIES: Final[frozenset[str]] = frozenset(get_args(Unread))


class UnreadRuns:
    """The runs of one session that do not pause, and how far each may go. All operations O(1).

    Args:
        budget_bytes: how far an unread session runs ahead of its last ack, whatever the policy.
        spill_bytes: how far `continue` does; not less than the budget.
    """

    __slots__ = ("_budget_bytes", "_policies", "_spill_bytes")

    def __init__(self, budget_bytes: int, spill_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._spill_bytes = max(budget_bytes, spill_bytes)
        self._policies: dict[str, Unread] = {}

    def __len__(self) -> int:
        return len(self._policies)

    def set(self, run: str, policy: Unread) -> None:
        """From now on this holds for what `run` says; "pause" forgets it."""
        if policy == "pause":
            self._policies.pop(run, None)
        else:
            self._policies[run] = policy

    def of(self, run: str) -> Unread:
        """Return a run's policy."""
        return self._policies.get(run, "pause")

    def limit(self, policy: Unread, granted: int | None, acked: int) -> int:
        """Return the position below which an event of such a run may begin.

        Args:
            granted: furthest grant of the live links; None: there is no live link.
            acked: the furthest that any link has acknowledged.
        """
        if policy == "continue":
            return (acked if granted is None else granted) + self._spill_bytes
        if granted is None:
            return acked + self._budget_bytes
        return granted + (self._budget_bytes if policy == "close" else 0)
