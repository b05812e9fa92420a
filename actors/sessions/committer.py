"""Group commit of one log: whatever gathers while one append is under way goes into the next.

Law of this file: entries reach the store in the order in which they were added, each exactly
once, or the log is given up (`Fenced`). A failed append leaves it unknown what was written, so
the committer claims the log again, compares the heads and appends the rest; nothing that was
added is forgotten while the process lives. `healthy` is False in between: the owner then
refuses new work instead of queueing it.

Records are added one by one; what a session says gathers at its `Source` and is asked for when an append
begins, so that a turn of the loop costs one append and one answer, however much was said in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from laneway.actors.alarm import nobody
from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Claim, Clock, Entry, Store
from laneway.actors.sessions.keeping import Run, Source, keeper
from laneway.routing.errors import Fenced, StoreError

__all__ = ["Committer", "read_back"]

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

    Attributes:
        healthy: False while the log cannot be written. keeps: the store keeps events as they are.
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
        kept = keeper(store)
        self.keeps = kept is not None
        self._kept = kept
        self._append_now = kept.append_now if kept is not None else None
        self._source: Source | None = None
        self._stirred = False
        self._waiting: list[Entry] = []
        self._then: list[tuple[int, Callable[[], None]]] = []  # due when so many entries are written; few at a time
        self._added = 0
        self._written = 0
        self._bytes = 0
        self._flushes: dict[asyncio.Future[None], None] = {}  # an empty set is three times as large
        self._soon: asyncio.Handle | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing = False
        self._closed = False
        self._given_up = False

    @property
    def backlog_bytes(self) -> int:
        """Bytes added, or gathered by the source, and not yet written."""
        return self._bytes + (self._source.waiting_bytes if self._source is not None else 0)

    def bind(self, source: Source) -> None:
        """Name what gathers events between appends; once."""
        self._source = source

    def stir(self) -> None:
        """The source has something: take it with the next append, which begins with the next turn of the loop."""
        self._stirred = True
        if not self._writing and not self._closed:
            self._begin()

    def add(self, entries: Sequence[Entry], then: Callable[[], None] | None = None) -> None:
        """Queue entries; `then` is called (in order) once they and all before them are written.

        Seqs must continue each stream. After `Fenced` or `close` entries are ignored: the owner
        has been told and is stopping.
        """
        if self._closed:
            return
        self._waiting += entries
        self._added += len(entries)
        self._bytes += _size(entries)
        if then is not None:
            self._then.append((self._added, then))
        if not self._writing:
            self._begin()

    async def flush(self) -> bool:
        """Wait for what was added so far, not for what comes meanwhile.

        Returns True once it is written, False if the log was given up.
        """
        if self._writing:
            reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._flushes[reached] = None
            if not self.keeps:
                self._queue(self._gathered())
            self._then.append((self._added, partial(_resolve, reached)))
            try:
                await reached
            finally:
                self._flushes.pop(reached, None)
        return not self._given_up

    async def holds(self) -> bool:
        """Ask the store whether the log is still ours; gives it up if it is not. Raises StoreError."""
        try:
            await self._store.append(self.claim, ())
        except Fenced as error:
            if not self._given_up:
                self._give_up(error)
        return not self._given_up

    def give_up(self, error: Fenced) -> None:
        """Write nothing more, as if the log were another's: `on_fenced` is told. Idempotent.

        An append that has been handed to the store already may still be done.
        """
        if self._closed:
            return
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._task is not None:
            self._task.cancel()
        self._give_up(error)

    async def close(self, deadline_s: float = 5.0) -> None:
        """Write what is left within `deadline_s` seconds, then stop; idempotent."""
        if self._soon is not None:
            self._soon.cancel()
            self._write_now()
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=deadline_s)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        self._closed = True
        self._wake_flushes()
        if self._kept is not None and not self._given_up:
            self._kept.rest(self.claim)

    def let_go(self) -> None:
        """It is closed and nobody asks any more: it forgets whom it would tell."""
        self._source, self._on_fenced = None, nobody

    def _begin(self) -> None:
        """Write soon: what else is added in this turn of the loop goes into the same append."""
        self._writing = True
        loop = asyncio.get_running_loop()
        if self._append_now is not None:
            self._soon = loop.call_soon(self._write_now)
        else:
            self._task = loop.create_task(self._run(), name=f"commit {self.claim.key}")

    def _write_now(self) -> None:
        """Write what waits into a store that answers at once, without a task; after a failure, with one."""
        self._soon = None
        assert self._append_now is not None, "only for such a store"
        try:
            while self._waiting or self._then or self._stirred:
                runs = self._gathered()
                began = self._clock.now()
                batch, size, upto = self._take()
                try:
                    self._append_now(self.claim, batch, runs)
                except StoreError:
                    self._waiting[:0] = batch
                    self._queue(runs)
                    self._task = asyncio.get_running_loop().create_task(self._run(), name=f"commit {self.claim.key}")
                    return
                self._meters.commit(self._clock.now() - began)
                for run in runs:
                    self._tell(run)
                self._settle(size, upto)
            self._writing = False
        except Exception as error:
            self._give_up_for(error)

    async def _run(self) -> None:
        try:
            while self._waiting or self._then or self._stirred:
                self._queue(self._gathered())
                await self._write_batch()
        except Exception as error:
            self._give_up_for(error)
        finally:
            self._task = None
            self._writing = False

    def _gathered(self) -> Sequence[Run]:
        """Take what the source has."""
        if not self._stirred or self._source is None:
            return ()
        self._stirred = False
        return self._source.take()

    def _queue(self, runs: Sequence[Run]) -> None:
        """Let runs wait as entries."""
        for run in runs:
            entries = run.entries()
            self._waiting += entries
            self._added += len(entries)
            self._bytes += _size(entries)
            self._then.append((self._added, partial(self._tell, run)))

    def _tell(self, run: Run) -> None:
        assert self._source is not None, "it was asked for this run"
        self._source.written(run)

    def _give_up_for(self, error: Exception) -> None:
        if not isinstance(error, Fenced):
            # a broken contract or callback: what the log holds is unknown, so this home must end
            error = Fenced(f"log {self.claim.key} was given up: {type(error).__name__}: {error}")
        self._give_up(error)

    def _give_up(self, error: Fenced) -> None:
        self._closed = self._given_up = True
        self._writing = False
        self._waiting.clear()
        self._then.clear()
        self._bytes = 0
        self._wake_flushes()
        self._on_fenced(error)

    def _wake_flushes(self) -> None:
        for reached in self._flushes:
            _resolve(reached)

    def _take(self) -> tuple[list[Entry], int, int]:
        """Return what waits, its bytes, and the position up to which it is written then."""
        batch, self._waiting = self._waiting, []
        return batch, self._bytes, self._added

    async def _write_batch(self) -> None:
        batch, size, upto = self._take()
        if batch:
            began = self._clock.now()
            try:
                await self._store.append(self.claim, batch)
            except StoreError:
                self._waiting[:0] = batch
                self._meters.count("store.failed")
                await self._recover()
                return
            except BaseException:
                self._waiting[:0] = batch
                raise
            self._meters.commit(self._clock.now() - began)
        self._settle(size, upto)

    def _settle(self, size: int, upto: int) -> None:
        """`size` bytes are written: call who waited for position `upto`."""
        self._bytes -= size
        self._written = upto
        then = self._then
        while then and then[0][0] <= upto:
            then.pop(0)[1]()

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
        size = _size(self._waiting[:written])
        del self._waiting[:written]
        self._settle(size, self._written + written)
        self._set_health(True)

    def _set_health(self, healthy: bool) -> None:
        if self.healthy is not healthy:
            self.healthy = healthy
            if self._on_health is not None:
                self._on_health(healthy)


async def read_back(store: Store, key: str, stream: int, first: int, head: int) -> list[Entry]:
    """Return what was committed to one stream, `first` to `head`. O(entries). Raises StoreError."""
    entries: list[Entry] = []
    while first <= head and (page := await store.read(key, stream, first)):
        entries += page
        first = page[-1].seq + 1
    return entries


def _size(entries: Sequence[Entry]) -> int:
    return sum(len(entry[3]) for entry in entries) + _ENTRY_OVERHEAD_BYTES * len(entries)


def _resolve(reached: asyncio.Future[None]) -> None:
    if not reached.done():
        reached.set_result(None)
