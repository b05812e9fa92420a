"""The ledger of tool effects: intent -> effect -> result, so that an effect starts at most once.

Law of this file: before an effect may begin, its intent is in the store; after it, its result. The
key is (tenant, session, run, call id), or (tenant, session, idempotency key) when the caller gave one;
the record holds a hash of tool and arguments. The same key again gives the first result; with other
arguments it is IdempotencyMismatch; while the call is under way in this process the second caller
waits for the first (attach). An intent without a result is a crash in between: OutcomeUnknown, never
run again by itself, unless the tool is repeatable (declared idempotent or without effects).
Repeatable calls write no intent: running them again is harmless, and it halves their writes.
A call that failed before its effect began leaves no record, so that the same id can be tried again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgpack

from laneway.actors.ports import Record
from laneway.actors.tools.lifecycle import State
from laneway.routing.errors import IdempotencyMismatch, LanewayError, OutcomeUnknown, StoreError

__all__ = ["PREFIX", "CallKey", "Ledger", "Records", "Settled", "Ticket", "digest"]

PREFIX: Final = "tool/"
"""What the store key of every record begins with."""
_TTL_S: Final = 86_400.0
"""How long a duplicate still meets the first result: 24 h."""
_MAX_CONTENT_BYTES: Final = 65_536
"""Largest result kept for replay; a larger one is answered once and only its success is kept."""
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


class CallKey(NamedTuple):
    """What makes a call the same call.

    Attributes:
        call_id: id within the run, or the idempotency key with `run` empty and `named` True.
    """

    tenant: str
    session: str
    run: str
    call_id: str
    named: bool = False

    @property
    def text(self) -> str:
        """Store key; parts are escaped, so that no id can reach into another's place."""
        kind = "key" if self.named else "call"
        parts = (self.tenant, self.session, self.run, self.call_id)
        text = "/".join(parts)
        if "%" in text or text.count("/") > 3:  # else nothing is to be escaped: nearly always
            text = "/".join([part.replace("%", "%25").replace("/", "%2F") for part in parts])
        return f"{PREFIX}{kind}/{text}"


class Settled(NamedTuple):
    """How a call ended: content is JSON text; code is empty on success."""

    state: State
    content: str
    code: str = ""
    retryable: bool = False


_Waiting: TypeAlias = "asyncio.Future[Settled | LanewayError]"


def digest(name: str, arguments: object) -> bytes:
    """Hash of a tool name and its arguments (msgpack-able); the order of map keys does not matter."""
    return hashlib.blake2b(msgpack.packb([name, _ordered(arguments)]), digest_size=16).digest()


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        return [[str(key), _ordered(value[key])] for key in sorted(value, key=str)]
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    return value


class Ticket:
    """The right to run one call, held by exactly one task of this process until it settles."""

    __slots__ = ("_digest", "_ledger", "_place", "_repeatable", "_version", "key")

    def __init__(
        self, ledger: Ledger, key: CallKey, place: str, hashed: bytes, version: int, *, repeatable: bool
    ) -> None:
        self.key = key
        self._place = place
        self._ledger = ledger
        self._digest = hashed
        self._version = version
        self._repeatable = repeatable

    async def start(self) -> None:
        """Record the intent; the effect may begin when this returns. Idempotent per ticket for retries.

        Raises:
            OutcomeUnknown: another process began the same call meanwhile.
            StoreError: the intent could not be written, so the effect must not begin.
        """
        if self._repeatable or self._ledger.forgets:
            return
        blob = _pack(State.RUNNING, self._digest, None)
        version = await self._ledger.store.put(self._place, blob, version=self._version, ttl_s=_TTL_S)
        if not version:
            raise OutcomeUnknown(
                f"call {self.key.call_id!r} was started by another process at the same time; ask again for its result"
            )
        self._version = version

    async def settle(self, result: Settled) -> bool:
        """Record how it ended and answer everyone attached; False if the record could not be written.

        The answer is given even then: the effect has happened and its result is known here.
        """
        try:
            return await self._ledger.write(self._place, self._digest, result, self._version)
        except StoreError:
            return False
        finally:
            self._ledger.release(self.key, result)

    def settle_later(self, result: Settled) -> None:
        """As `settle`, from a task that is being cancelled; `Ledger.close` awaits the write."""
        self._ledger.hold(self.settle(result))

    def abandon(self, outcome: Settled | LanewayError) -> None:
        """The effect has not begun: answer those attached, leave no record, free the key."""
        self._ledger.release(self.key, outcome)


class Ledger:
    """Who is running what here, and what every call of the last 24 h came to.

    Args:
        store: versioned values; whether this survives kill -9 is that store's to say.
        forgets: the store is this process's alone and dies with it, so nobody could ever read an intent:
            none is written, only results.
    """

    def __init__(self, store: Records, *, forgets: bool = False) -> None:
        self.store = store
        self.forgets = forgets
        self._running: dict[CallKey, tuple[bytes, _Waiting]] = {}
        self._writes: set[asyncio.Task[bool]] = set()

    @property
    def running(self) -> int:
        """Calls under way in this process."""
        return len(self._running)

    async def claim(self, key: CallKey, hashed: bytes, *, repeatable: bool) -> Ticket | Settled:
        """Return a ticket if the call may run, or how it (already, or by waiting) ended.

        Args:
            key: identity of the call.
            hashed: `digest` of tool and arguments.
            repeatable: the tool is idempotent or has no effects.

        Raises:
            IdempotencyMismatch: the key was used with another tool or other arguments.
            OutcomeUnknown: a crash fell between its effect and its record.
            StoreError: the store cannot say; nothing was started.
        """
        running = self._running.get(key)
        if running is not None:
            return await self._attach(key, hashed, *running)
        self._running[key] = (hashed, asyncio.get_running_loop().create_future())
        try:
            return await self._look_up(key, hashed, repeatable)
        except LanewayError as error:
            self.release(key, error)
            raise
        except asyncio.CancelledError:
            self.release(key, StoreError(f"the first caller of {key.call_id!r} was cancelled; ask again"))
            raise

    async def _attach(self, key: CallKey, hashed: bytes, first: bytes, waiting: _Waiting) -> Settled:
        if hashed != first:
            raise _mismatch(key)
        outcome = await asyncio.shield(waiting)
        if isinstance(outcome, LanewayError):
            raise outcome
        return outcome

    async def _look_up(self, key: CallKey, hashed: bytes, repeatable: bool) -> Ticket | Settled:
        place = key.text
        record = await self.store.get(place)
        if not record.version:
            return Ticket(self, key, place, hashed, 0, repeatable=repeatable)
        state, first, result = _unpack(record.value)
        if first != hashed:
            raise _mismatch(key)
        if result is not None:
            self.release(key, result)
            return result
        if repeatable:
            return Ticket(self, key, place, hashed, record.version, repeatable=True)
        if state is State.RUNNING:
            blob = _pack(State.OUTCOME_UNKNOWN, hashed, None)
            await self.store.put(place, blob, version=record.version, ttl_s=_TTL_S)
        raise OutcomeUnknown(
            f"call {key.call_id!r} was started and the process that ran it is gone without a record; "
            "check the effect at its target, then call again under a new id"
        )

    async def write(self, place: str, hashed: bytes, result: Settled, version: int) -> bool:
        """Write the result over this call's own record; False if somebody else's stands there.

        Args:
            place: store key of the call. hashed, result: the call and how it ended.
            version: of the call's record as this process last knew it, 0 for none.
        """
        blob = _pack(result.state, hashed, result)
        for _ in range(_ATTEMPTS):
            if await self.store.put(place, blob, version=version, ttl_s=_TTL_S):
                return True
            record = await self.store.get(place)
            if record.version:
                _, first, settled = _unpack(record.value)
                if first != hashed or settled is not None:
                    return False
            version = record.version
        return False

    def release(self, key: CallKey, outcome: Settled | LanewayError) -> None:
        """Free the key and answer those attached."""
        running = self._running.pop(key, None)
        if running is not None and not running[1].done():
            running[1].set_result(outcome)

    def hold(self, write: Coroutine[Any, Any, bool]) -> None:
        """Own a write that outlives its caller."""
        task = asyncio.get_running_loop().create_task(write, name="tool-ledger-write")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Wait for the writes that outlived their callers."""
        while self._writes:
            await asyncio.gather(*self._writes)


def _mismatch(key: CallKey) -> IdempotencyMismatch:
    return IdempotencyMismatch(
        f"{key.call_id!r} was used before with another tool or other arguments; use a new id for a new call"
    )


def _pack(state: State, hashed: bytes, result: Settled | None) -> bytes:
    blob: list[object] = [state.value, hashed]
    if result is not None:
        content = result.content
        if len(content) * 4 > _MAX_CONTENT_BYTES and len(content.encode()) > _MAX_CONTENT_BYTES:
            content = ""
        blob += [content, result.code, result.retryable, content != result.content]
    packed: bytes = msgpack.packb(blob)
    return packed


def _unpack(blob: bytes) -> tuple[State, bytes, Settled | None]:
    fields = msgpack.unpackb(blob)
    state, hashed = State(fields[0]), fields[1]
    if len(fields) == 2:
        return state, hashed, None
    content, code, retryable, cut = fields[2:]
    if cut:
        code = code or "RESULT_NOT_KEPT"
        content = (
            '{"error":{"code":"' + code + '","message":"this call ended before; '
            'its result was too large to keep for a second answer"}}'
        )
    return state, hashed, Settled(state, content, code, retryable)
