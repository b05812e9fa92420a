"""A store that another host keeps: every call is one question, and one answer.

Law of this file: what was acknowledged here is as durable as that host's own store says; nothing is
remembered or repeated here. While the host is away every call is a StoreError that says so, and it
answers again as soon as the host is back. No answer is larger than a message may be: long lists come
in pages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from laneway.actors.peers import Peer
from laneway.actors.ports import Claim, DeadLetter, Entry, Record, Store
from laneway.actors.questions import Questions
from laneway.routing.errors import (
    DeadlineExceeded,
    HandlerFailed,
    HostLost,
    Overloaded,
    PeerProtocolError,
    RuntimeUnavailable,
    StoreError,
)

__all__ = ["STORE", "RemoteStore", "StoreService"]

STORE: Final = "store"
"""The service's name."""
_TIMEOUT_S: Final = 10.0
"""A store answers in milliseconds; one that needs longer is down, and the caller says so."""
_PAGE_BYTES: Final = 1_048_576
"""Of a list in one answer: as large as the largest single value, an event with its body."""
_KEY_OVERHEAD_BYTES: Final = 8
_LETTER_OVERHEAD_BYTES: Final = 256
_AWAY: Final = (RuntimeUnavailable, HostLost, DeadlineExceeded, Overloaded, HandlerFailed, PeerProtocolError)
"""What a question may come to beside the store's own errors."""

_T = TypeVar("_T")


class RemoteStore:
    """Implements `ports.Store` by asking the host that `front` names, at each call.

    Args:
        questions: asks. peers: name -> the live connection, as `Switchboard.peers` is.
        front: name of the host to ask now, or None if there is none.
        timeout_s: seconds until a call that is not answered is a StoreError.
    """

    def __init__(
        self,
        questions: Questions,
        peers: Mapping[str, Peer],
        front: Callable[[], str | None],
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._questions = questions
        self._peers = peers
        self._front = front
        self._timeout_s = timeout_s
        self._durable = False
        self._closed = False
        self._waiting: set[asyncio.Future[Any]] = set()

    @property
    def durable(self) -> bool:
        """What the host's store said when it was opened here; False before."""
        return self._durable

    @property
    def shared(self) -> bool:
        """True: every host that has a link to the front."""
        return True

    async def open(self) -> None:
        """Ask what the store promises; not needed for anything but `durable`."""
        self._closed = False
        self._durable = await self._ask("durable")

    async def close(self) -> None:
        """Wait for what is under way, then refuse; the store itself stays open where it is. Idempotent."""
        self._closed = True
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=self._timeout_s)

    async def claim(self, key: str) -> Claim:
        """See `Store.claim`."""
        key, generation, epoch, heads, floors = await self._ask("claim", key)
        return Claim(key, generation, epoch, {stream: (seq, at) for stream, seq, at in heads}, dict(floors))

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """See `Store.append`."""
        await self._ask("append", _right(claim), [list(entry) for entry in entries])

    async def read(self, key: str, stream: int, first: int, max_bytes: int = 262_144) -> list[Entry]:
        """See `Store.read`."""
        return [Entry(*fields) for fields in await self._ask("read", key, stream, first, max_bytes)]

    async def trim(self, claim: Claim, stream: int, below: int) -> None:
        """See `Store.trim`."""
        await self._ask("trim", _right(claim), stream, below)

    async def keys(self, prefix: str) -> list[str]:
        """See `Store.keys`; one question per MiB of keys."""
        keys: list[str] = []
        while page := await self._ask("keys", prefix, keys[-1] if keys else ""):
            keys += page
        return keys

    async def get(self, key: str) -> Record:
        """See `Store.get`; one question."""
        version, value = await self._ask("get", key)
        return Record(version, value)

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        """See `Store.put`; one question. After a StoreError it may have been written all the same."""
        written: int = await self._ask("put", key, value, version, ttl_s)
        return written

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        await self._ask("delete", key)

    async def bury(self, letter: DeadLetter) -> int:
        """See `Store.bury`."""
        number: int = await self._ask("bury", list(letter))
        return number

    async def dead(self, tenant: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """See `Store.dead`; one question per MiB of letters."""
        letters: list[DeadLetter] = []
        while len(letters) < limit:
            page = await self._ask("dead", tenant, limit, letters[-1].id if letters else None)
            if not page:
                break
            letters += [DeadLetter(*fields) for fields in page]
        return letters[:limit]

    async def exhume(self, ids: Sequence[int]) -> list[DeadLetter]:
        """See `Store.exhume`; one question for each, so that no answer that is lost takes many with it."""
        letters: list[DeadLetter] = []
        for number in ids:
            letters += [DeadLetter(*fields) for fields in await self._ask("exhume", number)]
        return letters

    async def _ask(self, method: str, *arguments: Any) -> Any:
        name = self._front()
        peer = self._peers.get(name) if name is not None else None
        if self._closed or peer is None:
            why = "is closed here" if self._closed else f"is away: host {name!r} is not connected; try again"
            raise StoreError(f"{method} failed: the store {why}")
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(over)
        try:
            return await self._questions.ask(peer, STORE, method, list(arguments), self._timeout_s)
        except _AWAY as error:
            raise StoreError(f"{method} failed at the store of host {name!r}: {error.message}") from error
        finally:
            self._waiting.discard(over)
            over.set_result(None)


class StoreService:
    """Answers a host's questions from a real store: ``questions.serve(STORE, StoreService(store))``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answers: Mapping[str, Callable[..., Any]] = {
            "durable": self._is_durable,
            "claim": self._claim,
            "append": self._append,
            "read": store.read,
            "trim": self._trim,
            "keys": self._keys,
            "get": store.get,
            "put": self._put,
            "delete": store.delete,
            "bury": self._bury,
            "dead": self._dead,
            "exhume": self._exhume,
        }

    async def __call__(self, peer: Peer, method: str, arguments: Any) -> Any:
        """Carry one call out. Raises what the store raises, and PeerProtocolError for what is no call."""
        answer = self._answers.get(method)
        if answer is None:
            raise PeerProtocolError(f"a store has no method {method!r}", reason="UNKNOWN_METHOD")
        return await answer(*arguments)

    async def _is_durable(self) -> bool:
        return self._store.durable

    async def _claim(self, key: str) -> list[Any]:
        claim = await self._store.claim(key)
        heads = [[stream, *head] for stream, head in claim.heads.items()]
        return [claim.key, claim.generation, claim.epoch, heads, [list(floor) for floor in claim.floors.items()]]

    async def _append(self, right: Sequence[Any], entries: Sequence[Sequence[Any]]) -> None:
        await self._store.append(_claim_of(right), [Entry(*fields) for fields in entries])

    async def _trim(self, right: Sequence[Any], stream: int, below: int) -> None:
        await self._store.trim(_claim_of(right), stream, below)

    async def _keys(self, prefix: str, after: str) -> list[str]:
        return _page(
            [key for key in await self._store.keys(prefix) if key > after],
            lambda key: len(key.encode()) + _KEY_OVERHEAD_BYTES,
        )

    async def _put(self, key: str, value: bytes, version: int | None, ttl_s: float | None) -> int:
        return await self._store.put(key, value, version=version, ttl_s=ttl_s)

    async def _bury(self, fields: Sequence[Any]) -> int:
        return await self._store.bury(DeadLetter(*fields))

    async def _dead(self, tenant: str | None, limit: int, before: int | None) -> list[DeadLetter]:
        letters = await self._store.dead(tenant, limit)
        return _page(
            [letter for letter in letters if before is None or letter.id < before],
            lambda letter: len(letter.packed) + len(letter.message.encode()) + _LETTER_OVERHEAD_BYTES,
        )

    async def _exhume(self, number: int) -> list[DeadLetter]:
        return await self._store.exhume([number])


def _right(claim: Claim) -> list[Any]:
    """What a store looks at when a log is written: the claim without its heads and floors."""
    return [claim.key, claim.generation, claim.epoch]


def _claim_of(right: Sequence[Any]) -> Claim:
    key, generation, epoch = right
    return Claim(key, generation, epoch, {}, {})


def _page(items: Sequence[_T], weight: Callable[[_T], int]) -> list[_T]:
    """Return the first items, at least one if there is any, that weigh a page together."""
    page: list[_T] = []
    left = _PAGE_BYTES
    for item in items:
        left -= weight(item)
        if left < 0 and page:
            break
        page.append(item)
    return page
