"""Group commit over one connection: what waits becomes one batch, one script call, one fsync of the server.

Law of this file: batches of a writer are numbered, and the server keeps the last number and its answer.
So a batch whose answer was lost is sent again under its number and hears what was decided the first
time, and one that arrives after its writer went on does nothing. It is sent twice at most; then its
callers hear StoreError, and what was written is unknown until they ask (claim, get).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from laneway.engine.stores.redis_convoy import Convoy, Job
from laneway.engine.stores.redis_scripts import script
from laneway.engine.stores.redis_standing import KEPT_S, Mark, Standing
from laneway.engine.stores.redis_wire import Broken, Refused, Wire
from laneway.routing.errors import ConfigError, StoreError

__all__ = ["Writer"]

_MOST: Final = 1_024
_ADVICE: Final = {
    "OOM": "its memory is full: raise maxmemory, or shorten what is kept",
    "READONLY": "it became a replica: name its master in store.url",
    "MISCONF": "it cannot write to its disk: free space there and see its log",
    "NOPERM": "its user may not do that: see docs/operations.md for what it needs",
    "WRONGTYPE": "something else uses these keys: name another store.prefix",
}


class Writer:
    """Writes of one store.

    Args:
        standing: what is known of the server.
        max_pending_bytes: bound of what waits; answer_s: deadline of one exchange.
    """

    def __init__(self, wire: Wire, standing: Standing, *, max_pending_bytes: int, answer_s: float) -> None:
        self._wire = wire
        self._standing = standing
        self._mark = Mark(secrets.token_hex(8))
        self._number = 0
        self._convoy = Convoy(
            wire.address.label,
            self._carry,
            max_pending_bytes=max_pending_bytes,
            answer_s=3 * answer_s,  # connecting, and the same batch twice
            most=_MOST,
        )

    async def open(self) -> None:
        """Enter the server for the first time. Raises ConfigError, StoreError."""
        try:
            await self._entered()
        except Broken as error:
            raise StoreError(f"{self._wire.address.label} ended the connection: {error}") from None

    def submit(self, operation: Sequence[Any], size_bytes: int = 0) -> asyncio.Future[Any]:
        """Hand in an operation of `redis_write.lua` and return the future of its answer. Raises StoreError."""
        try:
            packed = msgpack.packb(operation, use_bin_type=False)  # Lua's msgpack knows no bin type
        except (ValueError, OverflowError, UnicodeEncodeError) as error:
            raise StoreError(
                f"{self._wire.address.label} cannot hold this: {error}; keys and texts are UTF-8, numbers 64-bit"
            ) from None
        return self._convoy.submit(packed, len(packed))

    async def enter(self) -> None:
        """Make sure that the server is the store we know, or learn that it is another one. Raises StoreError."""
        await self._convoy.submit(None, 0)

    async def close(self, deadline_s: float) -> bool:
        """Write what waits and close the connection; returns whether all was written. Idempotent."""
        done = await self._convoy.close(deadline_s)
        await self._wire.close()
        return done

    async def _carry(self, jobs: Sequence[Job]) -> None:
        """Send one batch and settle its jobs."""
        loads = [job.load for job in jobs if job.load is not None]
        if len(loads) < len(jobs):  # somebody met another store: see which
            await self._wire.close()
        self._number += 1
        answers = iter(await self._delivered(b"".join((_array(len(loads)), *loads))))
        for job in jobs:
            job.settle(None if job.load is None else self._result(next(answers)))

    async def _delivered(self, batch: bytes) -> list[Any]:
        """Return the answers of a batch, sent once, or twice if the connection broke. Raises StoreError."""
        where, cause = self._wire.address.label, ""
        for _ in range(2):
            try:
                await self._entered()
                return await self._sent(batch)
            except ConfigError as error:
                await self._wire.close()
                raise StoreError(error.message) from None
            except Broken as error:
                cause = str(error)
        raise StoreError(f"{where} ended the connection ({cause}); whether it was written is unknown")

    async def _sent(self, batch: bytes) -> list[Any]:
        write, mark = script("write"), self._mark
        tail = (
            1,
            self._standing.store,
            self._standing.prefix,
            self._standing.id,
            mark.writer,
            self._number,
            KEPT_S,
            batch,
        )
        (reply,) = await self._wire.ask(("EVALSHA", write.digest, *tail))
        if isinstance(reply, Refused) and reply.code == "NOSCRIPT":
            (reply,) = await self._wire.ask(("EVAL", write.text, *tail))
        if isinstance(reply, Refused):
            await self._wire.close()
            if reply.code == "EMPTIED":
                raise Broken(reply.text)
            raise StoreError(self._told(reply.code, reply.text))
        answers: list[Any] = msgpack.unpackb(reply, raw=True)
        if answers and answers[0] == b"UNKEPT":
            return list(answers[1])
        mark.answered, mark.at = self._number, asyncio.get_running_loop().time()
        return answers

    async def _entered(self) -> None:
        """Be connected, and know who is there."""
        if self._wire.is_open and not self._standing.is_due():
            return
        await self._wire.open()
        try:
            await self._standing.make(self._wire, self._mark)
        except BaseException:
            await self._wire.close()
            raise

    def _result(self, answer: Any) -> Any:
        """Return the answer, or the error of an operation that the server failed to carry out."""
        if isinstance(answer, list) and answer and answer[0] == b"FAILED":
            text = answer[1].decode("utf-8", "replace")
            return StoreError(self._told(text.partition(" ")[0], text))
        return answer

    def _told(self, code: str, text: str) -> str:
        advice = _ADVICE.get(code, "see its log")
        return f"{self._wire.address.label} did not write: {self._wire.address.scrub(text)}; {advice}"


def _array(count: int) -> bytes:
    """Return the head of a msgpack array."""
    return b"\xdd" + count.to_bytes(4, "big")
