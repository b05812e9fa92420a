"""Sessions that are being opened: one task for each, whoever asks, and a bounded number of places.

Law of this file: a session has one place from the first question for it until its home is gone, and never
two, also in the moment in which its home is there already and the task that opened it is not over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final, Generic, TypeAlias, TypeVar

from laneway.routing.errors import Overloaded, StoreUnavailable

__all__ = ["Openings"]

_Home = TypeVar("_Home")
_Key: TypeAlias = tuple[str, str]
"""tenant, session"""

_DEADLINE_S: Final = 10.0


class Openings(Generic[_Home]):
    """Those of one directory.

    Args:
        most: places. awake: the sessions whose homes are there; each has a place.
    """

    def __init__(self, most: int, awake: Collection[_Key]) -> None:
        self._most = most
        self._awake = awake
        self._tasks: dict[_Key, asyncio.Task[_Home]] = {}
        self._arrived: set[_Key] = set()
        """Those in both books."""

    async def wait(self, key: _Key, opening: Callable[[str, str], Coroutine[Any, Any, _Home]]) -> _Home:
        """Return what `opening` makes for a session without a home; it runs once, however many ask. O(1).

        Raises Overloaded if no place is free, StoreUnavailable after 10 s (the opening goes on), and what it raises.
        """
        if (task := self._tasks.get(key)) is None:
            if len(self._awake) + len(self._tasks) - len(self._arrived) >= self._most:
                raise Overloaded(f"{self._most} sessions are awake already", retry_after_ms=5000)
            task = asyncio.get_running_loop().create_task(opening(*key), name=f"open {key[0]}/{key[1]}")
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._over(key))
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await asyncio.shield(task)
        except TimeoutError:
            late = f"session {key[1]!r} could not be opened within {_DEADLINE_S:g} s; the store is slow or away"
            raise StoreUnavailable(late, retry_after_ms=1000) from None

    def arrived(self, key: _Key) -> None:
        """The home that is being opened is awake from now on; its task may go on."""
        self._arrived.add(key)

    def left(self, key: _Key) -> None:
        """The home is not awake any more, maybe before its task was over."""
        self._arrived.discard(key)

    async def close(self) -> None:
        """Wait for all that are under way, at most 10 s; what is not over then is cancelled."""
        if tasks := list(self._tasks.values()):
            for task in (await asyncio.wait(tasks, timeout=_DEADLINE_S))[1]:
                task.cancel()

    def _over(self, key: _Key) -> None:
        del self._tasks[key]
        self._arrived.discard(key)
