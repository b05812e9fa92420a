"""Group commit of one log: whatever gathers while one append is under way goes into the next.

Law of this file: entries reach the store in the order in which they were added, each exactly
once, or the log is given up (`Fenced`). A failed append leaves it unknown what was written, so
the committer claims the log again, compares the heads and appends the rest; nothing that was
added is forgotten while the process lives. `healthy` is False in between: the owner then
refuses new work instead of queueing it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Claim, Clock, Entry, Store
from laneway.routing.errors import Fenced, StoreError

__all__ = ["Committer"]

_RETRY_FIRST_S: Final = 0.05
_RETRY_CAP_S: Final = 2.0
_ENTRY_OVERHEAD_BYTES: Final = 64


class Committer:
    """Writes one claimed log.

    Args:
        store: where to.
        claim: the right to write, as `store.claim` gave it.
        clock: monotonic time, for the duration of appends.
        on_fenced: called once when somebody else took the log over; the owner must stop.
        on_health: called with False at the first failed append, with True when it writes again.
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        *,
        clock: Clock,
        on_fenced: Callable[[Fenced], None],
        on_health: Callable[[bool], None] | None = None,
        meters: SessionMeters | None = None,
    ) -> None:
        self.claim = claim
        self.healthy = True
        self._store = store
        self._clock = clock
        self._meters = meters or SessionMeters()
        self._on_fenced = on_fenced
        self._on_health = on_health
        self._waiting: deque[Entry] = deque()
        self._then: deque[tuple[int, Callable[[], None]]] = deque()
        self._added = 0
        self._written = 0
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._given_up = False

    @property
    def backlog_bytes(self) -> int:
        """Bytes added and not yet written."""
        return self._bytes

    def add(self, entries: Sequence[Entry], then: Callable[[], None] | None = None) -> None:
        """Queue entries; `then` is called (in order) once they and all before them are written.

        Seqs must continue each stream. After `Fenced` or `close` entries are ignored: the owner
        has been told and is stopping.
        """
        if self._closed:
            return
        self._waiting.extend(entries)
        self._added += len(entries)
        self._bytes += sum(len(entry.blob) + _ENTRY_OVERHEAD_BYTES for entry in entries)
        if then is not None:
            self._then.append((self._added, then))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"commit {self.claim.key}")

    async def flush(self) -> bool:
        """Wait for what was added so far, not for what comes meanwhile.

        Returns True once it is written, False if the log was given up.
        """
        if self._task is not None:
            reached = asyncio.get_running_loop().create_future()
            self._then.append((self._added, lambda: None if reached.done() else reached.set_result(None)))
            await asyncio.wait([reached, self._task], return_when=asyncio.FIRST_COMPLETED)
        return not self._given_up

    async def holds(self) -> bool:
        """Ask the store whether the log is still ours; gives it up if it is not. Raises StoreError."""
        try:
            await self._store.append(self.claim, ())
        except Fenced as error:
            if not self._given_up:
                self._give_up(error)
        return not self._given_up

    async def close(self, deadline_s: float = 5.0) -> None:
        """Write what is left within `deadline_s` seconds, then stop; idempotent."""
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=deadline_s)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        self._closed = True

    async def _run(self) -> None:
        try:
            while self._waiting or self._then:
                await self._write_batch()
        except Fenced as error:
            self._give_up(error)
        except Exception as error:
            # a broken contract or callback: what the log holds is unknown, so this home must end
            self._give_up(Fenced(f"log {self.claim.key} was given up: {type(error).__name__}: {error}"))
        finally:
            self._task = None

    def _give_up(self, error: Fenced) -> None:
        self._closed = self._given_up = True
        self._waiting.clear()
        self._then.clear()
        self._bytes = 0
        self._on_fenced(error)

    async def _write_batch(self) -> None:
        batch = list(self._waiting)
        upto = self._added
        if batch:
            began = self._clock.now()
            try:
                await self._store.append(self.claim, batch)
            except StoreError:
                self._meters.count("store.failed")
                await self._recover()
                return
            self._meters.commit(self._clock.now() - began)
        self._settle(len(batch), upto)

    def _settle(self, count: int, upto: int) -> None:
        """Take `count` written entries off the queue and call who waited for position `upto`."""
        for _ in range(count):
            entry = self._waiting.popleft()
            self._bytes -= len(entry.blob) + _ENTRY_OVERHEAD_BYTES
        self._written = upto
        while self._then and self._then[0][0] <= upto:
            self._then.popleft()[1]()

    async def _recover(self) -> None:
        """Claim again until it works, then drop from the queue what did get written."""
        self._set_health(False)
        pause_s = _RETRY_FIRST_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RETRY_CAP_S)
            try:
                await self._store.append(self.claim, ())  # if another home has the log, do not take it back
                claim = await self._store.claim(self.claim.key)
            except StoreError:
                continue
            break
        if claim.epoch != self.claim.epoch or claim.generation != self.claim.generation + 1:
            raise Fenced(f"log {claim.key} was claimed by another home while the store was away")
        written = 0
        for entry in self._waiting:
            if entry.seq > claim.heads.get(entry.stream, (0, 0))[0]:
                break
            written += 1
        self.claim = claim
        self._settle(written, self._written + written)
        self._set_health(True)

    def _set_health(self, healthy: bool) -> None:
        if self.healthy is not healthy:
            self.healthy = healthy
            if self._on_health is not None:
                self._on_health(healthy)
