"""The ledger of tool effects: intent -> effect -> result, so that an effect starts at most once.

Law of this file: before an effect may begin, its intent is in the store; after it, its result. The
key is (tenant, session, run, call id), or (tenant, session, idempotency key) when the caller gave one;
the record holds a hash of tool and arguments. The same key again gives the first result; with other
arguments it is IdempotencyMismatch; while the call is under way in this process the second caller
waits for the first (attach). An intent without a result is a crash in between: OutcomeUnknown, never
run again by itself, unless the tool is repeatable (declared idempotent or without effects).
Repeatable calls write no intent: running them again is harmless, and it halves their writes.
A call that failed before its effect began leaves no record, so that the same id can be tried again.

Nearly every call is new, and writing its intent says so: it is written only where nothing stands. So
that call is not looked up before; one that is refused, or has to wait for its turn, is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Protocol, TypeAlias

from laneway.actors.ports import Record
from laneway.actors.tools.entries import CallKey, Settled, pack_entry, unpack_entry
from laneway.actors.tools.lifecycle import State
from laneway.actors.tools.recall import Recall
from laneway.routing.errors import IdempotencyMismatch, LanewayError, OutcomeUnknown, StoreError

__all__ = ["Ledger", "Records", "Ticket"]

_TTL_S: Final = 86_400.0
"""How long a duplicate still meets the first result: 24 h."""
_ATTEMPTS: Final = 3
"""Compare-and-set rounds before a write gives up; only a second host can cause even one."""


class Records(Protocol):
    """What a ledger needs of a `Store`: versioned values."""

    async def get(self, key: str) -> Record:
        """See `Store.get`."""
        ...

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        """See `Store.put`."""
        ...


_Waiting: TypeAlias = "asyncio.Future[Settled | LanewayError]"


class Ticket:
    """The right to run one call, held by exactly one task of this process until it settles.

    Attributes:
        unread: nobody has looked whether the store knows this call.
        silent: its effect may begin without a record, so `start` has nothing to do.
    """

    __slots__ = ("_ledger", "_place", "_repeatable", "_version", "hashed", "key", "silent", "unread", "waiting")

    def __init__(self, ledger: Ledger, key: CallKey, hashed: bytes, *, repeatable: bool) -> None:
        self.key = key
        self.hashed = hashed
        self.unread = stored = ledger.recall is None
        self.silent = repeatable or not stored
        self.waiting: _Waiting | None = None
        self._ledger = ledger
        self._place = key.text if stored else ""
        self._repeatable = repeatable
        self._version = 0

    async def look_up(self) -> Settled | None:
        """Return how the call ended before, if it did; once per ticket, and nothing if it was done.

        Raises:
            IdempotencyMismatch: the key was used with another tool or other arguments.
            OutcomeUnknown: a crash fell between its effect and its record.
            StoreError: the store cannot say.
        """
        if not self.unread:
            return None
        store = self._ledger.store
        record = await store.get(self._place)
        self.unread = False
        if not record.version:
            return None
        state, first, result = unpack_entry(record.value)
        if first != self.hashed:
            raise _mismatch(self.key)
        if result is not None:
            return result
        if self._repeatable:
            self._version = record.version
            return None
        if state is State.RUNNING:
            blob = pack_entry(State.OUTCOME_UNKNOWN, self.hashed)
            await store.put(self._place, blob, version=record.version, ttl_s=_TTL_S)
        raise OutcomeUnknown(
            f"call {self.key.call_id!r} was started and the process that ran it is gone without a record; "
            "check the effect at its target, then call again under a new id"
        )

    async def start(self) -> Settled | None:
        """Record the intent; the effect may begin when this returns None. Idempotent per ticket for retries.

        Returns how the call ended before, if it did: then nothing may begin.

        Raises:
            what `look_up` does, and
            OutcomeUnknown: another process began the same call meanwhile.
            StoreError: the intent could not be written, so the effect must not begin.
        """
        if self.silent:
            return None
        blob = pack_entry(State.RUNNING, self.hashed)
        version = await self._ledger.store.put(self._place, blob, version=self._version, ttl_s=_TTL_S)
        if not version:
            known = await self.look_up()
            if known is not None:
                return known
            raise OutcomeUnknown(
                f"call {self.key.call_id!r} was started by another process at the same time; ask again for its result"
            )
        self._version, self.unread = version, False
        return None

    def settle_now(self, result: Settled) -> bool:
        """As `settle`, if that needs no waiting; else False, and nothing is done."""
        recall = self._ledger.recall
        if recall is None:
            return False
        recall.keep(self.key, self.hashed, result)
        self._ledger.release(self, result)
        return True

    async def settle(self, result: Settled) -> bool:
        """Record how it ended and answer everyone attached; False if the record could not be written.

        The answer is given even then: the effect has happened and its result is known here.
        """
        if self.settle_now(result):
            return True
        try:
            return await self._write(result)
        except StoreError:
            return False
        finally:
            self._ledger.release(self, result)

    async def _write(self, result: Settled) -> bool:
        """Write the result over this call's own record; False if somebody else's stands there."""
        store, version = self._ledger.store, self._version
        blob = pack_entry(result.state, self.hashed, result)
        for _ in range(_ATTEMPTS):
            if await store.put(self._place, blob, version=version, ttl_s=_TTL_S):
                return True
            record = await store.get(self._place)
            if record.version:
                _, first, settled = unpack_entry(record.value)
                if first != self.hashed or settled is not None:
                    return False
            version = record.version
        return False

    def settle_later(self, result: Settled) -> None:
        """As `settle`, from a task that is being cancelled; `Ledger.close` awaits the write."""
        if not self.settle_now(result):
            self._ledger.hold(self.settle(result))

    def abandon(self, outcome: Settled | LanewayError) -> None:
        """The effect has not begun: answer those attached, leave no record, free the key."""
        self._ledger.release(self, outcome)


class Ledger:
    """Who is running what here, and what every call of the last 24 h came to.

    Args:
        store: versioned values; whether this survives kill -9 is that store's to say.
        recall: the store is this process's alone and dies with it, so nobody could ever read an intent:
            none is written, and results are kept here instead.
    """

    def __init__(self, store: Records, *, recall: Recall | None = None) -> None:
        self.store = store
        self.recall = recall
        self._running: dict[CallKey, Ticket] = {}
        self._writes: set[asyncio.Task[bool]] = set()

    @property
    def running(self) -> int:
        """Calls under way in this process."""
        return len(self._running)

    def claim_now(self, key: CallKey, hashed: bytes, *, repeatable: bool) -> Ticket | Settled | None:
        """As `claim`, if that needs no waiting; else None, and nothing is done.

        The ticket may be `unread`: then the call may have ended before, which `start` or `look_up` tells.
        """
        if key in self._running:
            return None
        recall = self.recall
        if recall is None:
            if repeatable:  # it writes no intent that would tell
                return None
        elif (known := recall.find(key)) is not None:
            if known[0] != hashed:
                raise _mismatch(key)
            return known[1]
        ticket = self._running[key] = Ticket(self, key, hashed, repeatable=repeatable)
        return ticket

    async def claim(self, key: CallKey, hashed: bytes, *, repeatable: bool) -> Ticket | Settled:
        """Return a ticket if the call may run, or how it (already, or by waiting) ended.

        Args:
            key: identity of the call.
            hashed: `digest` of tool and arguments.
            repeatable: the tool is idempotent or has no effects.

        Raises: what `Ticket.look_up` does; then nothing was started.
        """
        first = self._running.get(key)
        if first is not None:
            return await _attach(first, hashed)
        if self.recall is not None:
            claimed = self.claim_now(key, hashed, repeatable=repeatable)
            assert claimed is not None, "it is not running"
            return claimed
        ticket = self._running[key] = Ticket(self, key, hashed, repeatable=repeatable)
        try:
            known = await ticket.look_up()
        except LanewayError as error:
            self.release(ticket, error)
            raise
        except asyncio.CancelledError:
            self.release(ticket, StoreError(f"the first caller of {key.call_id!r} was cancelled; ask again"))
            raise
        if known is not None:
            self.release(ticket, known)
            return known
        return ticket

    def release(self, ticket: Ticket, outcome: Settled | LanewayError) -> None:
        """Free the key and answer those attached."""
        self._running.pop(ticket.key, None)
        if ticket.waiting is not None and not ticket.waiting.done():
            ticket.waiting.set_result(outcome)

    def hold(self, write: Coroutine[Any, Any, bool]) -> None:
        """Own a write that outlives its caller."""
        task = asyncio.get_running_loop().create_task(write, name="tool-ledger-write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Wait for the writes that outlived their callers."""
        while self._writes:
            await asyncio.gather(*self._writes)


async def _attach(first: Ticket, hashed: bytes) -> Settled:
    """Wait for what the call of this ticket comes to. Raises IdempotencyMismatch, and what that one met."""
    if hashed != first.hashed:
        raise _mismatch(first.key)
    if first.waiting is None:
        first.waiting = asyncio.get_running_loop().create_future()
    outcome = await asyncio.shield(first.waiting)
    if isinstance(outcome, LanewayError):
        raise outcome
    return outcome


def _mismatch(key: CallKey) -> IdempotencyMismatch:
    return IdempotencyMismatch(
        f"{key.call_id!r} was used before with another tool or other arguments; use a new id for a new call"
    )
