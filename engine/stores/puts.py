"""Values that are put in one turn of the loop: one job of the writer, a few statements, one timer.

Law of this file: the result of each is its own, as if they were put one after the other in the order in
which they came; what else the store is asked meanwhile comes after them. Nothing waits longer than
the turn, and a long one hands over what has gathered.

A put alone costs the loop a job, a lock, a timer and a wake-up of the writer's thread, and that thread
three statements: of 256 tool calls at once that was a third of the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from laneway.engine.stores.database import Database
from laneway.engine.stores.versions import Put
from laneway.routing.errors import StoreError

__all__ = ["Puts"]

_MANY: Final = 64
"""So many are handed over at once, so that the writer works while the turn goes on."""
_ROW_BYTES: Final = 64


class Puts:
    """What has gathered for the writer.

    Args:
        submit: hands a job of so many bytes to the writer; see `Writer.submit`.
        limit: sees that the future of a job ends in time; returns what calls that off.
        max_bytes: bound of what gathers.
    """

    __slots__ = ("_bytes", "_limit", "_loop", "_max_bytes", "_puts", "_submit", "_waiting")

    def __init__(
        self,
        submit: Callable[[Callable[[Database], list[int]], int], asyncio.Future[list[int]]],
        limit: Callable[[asyncio.Future[list[int]]], Callable[[], None]],
        max_bytes: int,
    ) -> None:
        self._submit = submit
        self._limit = limit
        self._max_bytes = max_bytes
        self._puts: list[Put] = []
        self._waiting: list[asyncio.Future[int]] = []
        self._bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, put: Put) -> asyncio.Future[int]:
        """Take one in; returns the future of its new version, 0 if it is refused.

        Raises StoreError for a key that is not UTF-8, and if too much has gathered.
        """
        size_bytes = len(put.value) + _ROW_BYTES
        try:
            put.key.encode()
        except UnicodeEncodeError as error:
            raise StoreError(f"no store can hold this: {error}; keys are UTF-8") from None
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.hand_over()  # of a loop that has ended: nobody waits there any more
            self._loop = loop
        if self._puts and self._bytes + size_bytes > self._max_bytes:
            raise StoreError(f"{self._bytes} bytes wait to be written: the disk is too slow; retry later")
        if not self._puts:
            loop.call_soon(self.hand_over)
        answer: asyncio.Future[int] = loop.create_future()
        self._puts.append(put)
        self._waiting.append(answer)
        self._bytes += size_bytes
        if len(self._puts) == _MANY:
            self.hand_over()
        return answer

    def hand_over(self) -> None:
        """Give the writer what has gathered, if anything has: before whatever else it is given."""
        if not self._puts:
            return
        puts, waiting, size_bytes = self._puts, self._waiting, self._bytes
        self._puts, self._waiting, self._bytes = [], [], 0
        try:
            written = self._submit(partial(Database.put_all, puts=puts), size_bytes)
        except StoreError as error:
            for answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        written.add_done_callback(partial(_tell, waiting, self._limit(written)))


def _tell(waiting: list[asyncio.Future[int]], in_time: Callable[[], None], written: asyncio.Future[list[int]]) -> None:
    """Give each its own answer."""
    in_time()
    error = written.exception()
    for place, answer in enumerate(waiting):
        if answer.done():
            continue
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(written.result()[place])
