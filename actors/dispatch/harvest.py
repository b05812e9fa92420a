"""What the handlers of one pool have ended in one turn of the loop, to be settled together.

Law of this file: what is brought is settled once, in order, at the latest in the next turn of the loop;
without a loop (it is being torn down) at once.

Handlers that wait for the same timer, the same frame or for nothing at all end together, and what
follows an end (caps, books, journal, answers, room in the cells) costs less for many than for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from laneway.actors.dispatch.books import Ended
from laneway.actors.ports import Outcome
from laneway.routing.envelope import Envelope

__all__ = ["Harvest"]


class Harvest:
    """Gathers the ends of one pool; called as `turn.Answer`.

    Args:
        settle: told what has ended; a list that is its own.
    """

    __slots__ = ("_ended", "_settle")

    def __init__(self, settle: Callable[[list[Ended]], None]) -> None:
        self._settle = settle
        self._ended: list[Ended] = []

    def __call__(self, env: Envelope, outcome: Outcome) -> None:
        """An event has ended. O(1)."""
        self._ended.append((env, outcome))
        if len(self._ended) == 1:
            self._soon()

    def all(self, ended: Sequence[Ended]) -> None:
        """Several events have ended, at least one. O(events)."""
        first = not self._ended
        self._ended += ended
        if first:
            self._soon()

    def _soon(self) -> None:
        try:
            asyncio.get_running_loop().call_soon(self.settle)
        except RuntimeError:
            self.settle()

    def settle(self) -> None:
        """Settle now what was brought. Idempotent."""
        if self._ended:
            ended, self._ended = self._ended, []
            self._settle(ended)
