"""Reads over a connection of their own, so that a long page does not stand between an append and its answer.

Law of this file: reads change nothing and are sent again if the connection broke; each carries the
store's id, so that a server that was emptied is not read as if nothing had ever been there: the writer
finds out what happened, and says so, before the read goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from laneway.engine.stores.redis_convoy import Convoy, Job
from laneway.engine.stores.redis_scripts import script
from laneway.engine.stores.redis_standing import Standing
from laneway.engine.stores.redis_wire import Broken, Command, Refused, Wire
from laneway.routing.errors import ConfigError, StoreError

__all__ = ["Reader"]

_MOST: Final = 16
"""Reads at once; a page has 256 KiB by default, and replies lie in memory together."""
_TRIES: Final = 3
_PENDING_BYTES: Final = 16_777_216
_CALL_BYTES: Final = 256


class Reader:
    """Reads of one store.

    Args:
        standing: what is known of the server.
        enter: finds out what happened to a store that is not the one we knew.
        answer_s: deadline of one exchange.
    """

    def __init__(
        self, wire: Wire, standing: Standing, enter: Callable[[], Awaitable[None]], *, answer_s: float
    ) -> None:
        self._wire = wire
        self._standing = standing
        self._enter = enter
        self._convoy = Convoy(
            wire.address.label,
            self._carry,
            max_pending_bytes=_PENDING_BYTES,
            answer_s=(_TRIES + 1) * answer_s,
            most=_MOST,
        )

    async def ask(self, *arguments: bytes | str | int) -> Any:
        """Return what a read of `redis_read.lua` answers. Raises StoreError."""
        return await self._convoy.submit(arguments, _CALL_BYTES)

    async def close(self, deadline_s: float) -> bool:
        """End what is under way and close the connection; returns whether all was answered. Idempotent."""
        done = await self._convoy.close(deadline_s)
        await self._wire.close()
        return done

    async def _carry(self, jobs: Sequence[Job]) -> None:
        """Send reads, and again those that met another store, and settle each."""
        left, cause = list(jobs), ""
        for _ in range(_TRIES):
            try:
                await self._wire.open()
                replies = await self._replies(left)
            except ConfigError as error:
                raise StoreError(error.message) from None
            except Broken as error:
                cause = str(error)
                continue
            again = []
            for job, reply in zip(left, replies, strict=True):
                if isinstance(reply, Refused) and reply.code == "EMPTIED":
                    again.append(job)
                elif isinstance(reply, Refused):
                    job.settle(StoreError(f"{self._wire.address.label} did not read: {reply.text}"))
                else:
                    job.settle(reply)
            if not again:
                return
            left, cause = again, "it is not the store that it was"
            await self._enter()
        raise StoreError(f"{self._wire.address.label} ended the connection ({cause}); nothing was read")

    async def _replies(self, jobs: Sequence[Job]) -> list[Any]:
        read = script("read")
        calls = [self._call("EVALSHA", read.digest, job) for job in jobs]
        replies = await self._wire.ask(*calls)
        if any(isinstance(reply, Refused) and reply.code == "NOSCRIPT" for reply in replies):
            replies = await self._wire.ask(*(self._call("EVAL", read.text, job) for job in jobs))
        return replies

    def _call(self, command: str, what: str, job: Job) -> Command:
        return (command, what, 1, self._standing.store, self._standing.prefix, self._standing.id, *job.load)
