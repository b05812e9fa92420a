"""Taking up what a former process left in a store: every session that is ours to take, some at a time.

Law of this file: a session that cannot be read keeps nothing from the others; a store that keeps failing ends
it all, and whoever starts again begins with the first: of ten thousand sessions one may always meet a passing
failure. What is at home with a live front is left there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Final

from laneway.actors.homes.deeds import ELSEWHERE, Life
from laneway.actors.ports import Store
from laneway.actors.sessions.session import SessionHome
from laneway.routing.errors import Fenced, Overloaded, StoreError

if TYPE_CHECKING:
    from laneway.actors.homes.homes import Homes

__all__ = ["UNREADABLE", "Recovery"]

UNREADABLE: Final = "UNREADABLE"
"""Reason of the StoreError that says: this session's log is damaged."""

_AT_ONCE: Final = 8
"""Sessions taken up side by side where a store across the network is what is waited for."""

_PAUSES_S: Final = (0.05, 0.5, 2.0)
"""A read that failed is mostly better at once; a store that is away for seconds is not worth starting on."""


class Recovery:
    """Goes through a store once.

    Args:
        homes: as for the directory. find, open, rest: the directory's; `rest` puts a session to sleep.
    """

    def __init__(
        self,
        store: Store,
        homes: Homes | None,
        *,
        find: Callable[[str, str], SessionHome | None],
        open: Callable[[str, str], Awaitable[SessionHome]],
        rest: Callable[[SessionHome], Awaitable[None]],
    ) -> None:
        self._store = store
        self._homes = homes
        self._find = find
        self._open = open
        self._rest = rest

    async def run(
        self, progress: Callable[[int, int], None] | None = None, left_by: Collection[Life] | None = None
    ) -> int:
        """Take up; see `SessionDirectory.recover`."""
        keys = [key for key in await self._store.keys("") if "/session/" in key]
        waiting = iter(keys)
        done = busy = 0

        async def work() -> None:
            nonlocal done, busy
            for key in waiting:
                found = await self._take_up(key, left_by)  # apart: `busy` may grow meanwhile
                busy += found
                done += 1
                if progress is not None:
                    progress(done, len(keys))

        at_once = 1 if self._homes is None else _AT_ONCE
        loop = asyncio.get_running_loop()
        workers = [loop.create_task(work(), name="recovery") for _ in range(min(at_once, len(keys)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return busy

    async def _take_up(self, key: str, left_by: Collection[Life] | None) -> bool:
        """Open a session and tell if it has unfinished work; one that cannot be read is passed over."""
        if left_by is not None and self._homes is not None and not await self._homes.orphan(key, left_by):
            return False
        tenant, _, session = key.partition("/session/")
        awake = self._find(tenant, session) is not None
        try:
            home = await self._patiently(tenant, session)
        except (StoreError, Fenced) as error:
            if error.reason not in (UNREADABLE, ELSEWHERE):
                raise
            return False
        except Overloaded:  # all places are taken: it is taken up when somebody comes to it
            return True
        busy = home.ingress.pending > 0
        if not busy and not awake and not len(home.links):  # nobody has come to it meanwhile
            await self._rest(home)
        return busy

    async def _patiently(self, tenant: str, session: str) -> SessionHome:
        """Open a session; a store that fails is asked again after each of `_PAUSES_S`."""
        for pause_s in _PAUSES_S:
            try:
                return await self._open(tenant, session)
            except StoreError as error:
                if error.reason in (UNREADABLE, ELSEWHERE):
                    raise
            await asyncio.sleep(pause_s)
        return await self._open(tenant, session)
