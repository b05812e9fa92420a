"""Events that brought their process down again and again: given up, with a letter that says so.

Law of this file: an event is over only when its letter is in the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from laneway.actors.packer import Packer
from laneway.actors.ports import Clock, DeadLetter, Store
from laneway.actors.sessions.session import SessionHome
from laneway.routing.envelope import KIND

__all__ = ["Burials"]

_POISON_STARTS: Final = 3
"""As in `Ingress`: so many starts were recorded of what it puts into `unburied`."""


class Burials:
    """Writes the dead letters of session homes.

    Args:
        wall: UNIX seconds.
    """

    def __init__(self, store: Store, packer: Packer, clock: Clock, wall: Callable[[], float]) -> None:
        self._store = store
        self._packer = packer
        self._clock = clock
        self._wall = wall

    async def __call__(self, home: SessionHome) -> None:
        """Bury what a home has given up. O(such events). Raises StoreError; the rest is for the next call."""
        for env in list(home.ingress.unburied):
            message = f"{env[KIND]} was given to a handler {_POISON_STARTS} times and each time the process died"
            packed = self._packer.pack(env, self._clock.now())
            letter = DeadLetter(0, home.tenant, home.name, "POISON", message, _POISON_STARTS, packed, self._wall())
            await self._store.bury(letter)
            home.ingress.buried(env)
