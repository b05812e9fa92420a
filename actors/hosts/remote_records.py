"""The records of tool effects that a front keeps for the hosts that work for it: one question for each call.

Law of this file: a host reaches these records and nothing else of a front's store. What was acknowledged
here is as durable as that store says; nothing is remembered or repeated here. While the front is away
every call is a StoreError that says so, and it answers again as soon as the front is back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from laneway.actors.hosts.peers import Peer
from laneway.actors.hosts.questions import Questions
from laneway.actors.ports import Record
from laneway.actors.tools.entries import PREFIX
from laneway.actors.tools.ledger import Records
from laneway.routing.errors import (
    AccessError,
    DeadlineExceeded,
    HandlerFailed,
    HostLost,
    Overloaded,
    PeerProtocolError,
    RuntimeUnavailable,
    StoreError,
)

__all__ = ["RECORDS", "RecordService", "RemoteRecords"]

RECORDS: Final = "records"
"""The service's name."""
_TIMEOUT_S: Final = 10.0
"""A store answers in milliseconds; one that needs longer is down, and the caller says so."""
_AWAY: Final = (RuntimeUnavailable, HostLost, DeadlineExceeded, Overloaded, HandlerFailed, PeerProtocolError)
"""What a question may come to beside the store's own errors."""


class RemoteRecords:
    """Implements `ledger.Records` by asking the front that is named at each call.

    Args:
        questions: asks. peers: name -> the live connection, as `Switchboard.peers` is.
        front: name of the front to ask now, or None if there is none.
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

    async def get(self, key: str) -> Record:
        """See `Store.get`; one question."""
        version, value = await self._ask("get", key)
        return Record(version, value)

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        """See `Store.put`; one question. After a StoreError it may have been written all the same."""
        written: int = await self._ask("put", key, value, version, ttl_s)
        return written

    async def _ask(self, method: str, *arguments: Any) -> Any:
        name = self._front()
        peer = self._peers.get(name) if name is not None else None
        if peer is None:
            raise StoreError(f"{method} failed: the store is away: front {name!r} is not connected; try again")
        try:
            return await self._questions.ask(peer, RECORDS, method, list(arguments), self._timeout_s)
        except _AWAY as error:
            raise StoreError(f"{method} failed at the store of front {name!r}: {error.message}") from error


class RecordService:
    """Answers hosts' questions from a real store: ``questions.serve(RECORDS, RecordService(store))``."""

    def __init__(self, store: Records) -> None:
        self._store = store

    async def __call__(self, peer: Peer, method: str, arguments: Any) -> Any:
        """Carry one call out. Raises what the store raises, AccessError, and PeerProtocolError for what is no call."""
        key = arguments[0] if type(arguments) is list and arguments else None
        if type(key) is not str or not key.startswith(PREFIX):
            raise AccessError(f"host {peer.name} may reach records of tool calls only")
        if method == "get" and len(arguments) == 1:
            return list(await self._store.get(key))
        if method == "put" and len(arguments) == 4:
            _, value, version, ttl_s = arguments
            return await self._store.put(key, value, version=version, ttl_s=ttl_s)
        raise PeerProtocolError(f"records have no call {method!r} with {len(arguments)} arguments")
