"""The other fronts, as the newest membership view has them, and waiting for a newer one.

Law of this file: a life is over only if a settled view says so that is as new as what speaks for it.
Whoever cannot know yet waits for the next view, and not for ever.
"""

from __future__ import annotations

import asyncio
from typing import Final

from laneway.actors.homes.deeds import Life
from laneway.routing.errors import RuntimeUnavailable
from laneway.routing.membership import FRONT, View, succeeding

__all__ = ["Company"]

_LOOK_S: Final = 5.0
"""Longest wait for a membership view: a fresh registry settles within `lost_s` (2 s) and tells with the next beat."""
_RETRY_MS: Final = 200


class Company:
    """What front `name` knows of the others. All but the waiting is O(fronts) or better."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._view = View(0, (), settled=False)
        self._fronts: dict[str, Life] = {}
        self._looked = asyncio.Event()
        self._expected = 0

    @property
    def number(self) -> int:
        """Of the newest view."""
        return self._view.number

    @property
    def settled(self) -> bool:
        """Whether who is missing in the view is gone."""
        return self._view.settled

    @property
    def alone(self) -> bool:
        """True if there is no other front for certain."""
        return self.settled and self.number >= self._expected and not any(name != self.name for name in self._fronts)

    @property
    def others(self) -> list[Life]:
        """The other live fronts, by name."""
        return [life for name, life in sorted(self._fronts.items()) if name != self.name]

    def get(self, name: str) -> Life | None:
        """Return the present life of a front, or None if it is no member."""
        return self._fronts.get(name)

    def lives(self, life: Life) -> bool:
        """Whether this life of a front is a member."""
        return self._fronts.get(life.name) == life

    def saw(self, view: View) -> bool:
        """Take a view; False if it is older than what is known."""
        if view.number < self.number:
            return False
        self._view = succeeding(self._view, view)
        self._fronts = {member.name: Life(member.name, member.incarnation) for member in self._view.of(FRONT)}
        self.wake()
        return True

    def expect(self, number: int) -> None:
        """A view of this number exists, and names somebody who may not be in ours."""
        self._expected = max(self._expected, number)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()

    async def known(self) -> None:
        """Return once there was a view at all. Raises RuntimeUnavailable."""
        while not self._fronts:
            await self.look()

    async def goes_on(self, life: Life, since: int) -> bool:
        """Whether a life goes on that was a member in view `since`. Raises RuntimeUnavailable."""
        while not self.lives(life):
            if self.settled and self.number >= since:
                return False
            await self.look()
        return True

    async def look(self) -> None:
        """Wait for the next view, or `wake`. Raises RuntimeUnavailable after 5 s."""
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._looked.wait()
        except TimeoutError:
            raise RuntimeUnavailable(
                "the cluster's membership is not known at the moment; try again", retry_after_ms=_RETRY_MS
            ) from None
