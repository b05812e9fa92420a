"""Outbound events for sessions that are at home with another front: handed over, and answered when taken.

Law of this file: what is handed over waits for credit at the session's home, as if it were emitted there,
and its sender waits for the answer. A session that sleeps is not woken for it: nobody is there to read,
and whoever follows something for a session learns so that it has gone.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.fronts.flow import Flow
from laneway.actors.fronts.parcels import Parcels, size_bytes
from laneway.actors.hosts.peers import HAND, HANDED, Message, Peer
from laneway.routing.envelope import SESSION, TENANT, Envelope
from laneway.routing.errors import (
    DeadlineExceeded,
    HandlerFailed,
    HostLost,
    LanewayError,
    RuntimeUnavailable,
    UnknownSession,
)
from laneway.routing.failures import error_fields, error_of_fields

__all__ = ["Couriers"]

_TAKEN_S: Final = 180.0
"""More than a session that nobody reads holds a producer back (120 s), so that its own error comes first."""


class Couriers:
    """A `switchboard.Part` for HAND and HANDED, both sides. Lives on one event loop."""

    def __init__(self, directory: SessionDirectory, flow: Flow, parcels: Parcels) -> None:
        self._directory = directory
        self._flow = flow
        self._parcels = parcels
        self._waiting: dict[Peer, dict[int, asyncio.Future[None]]] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def hand(self, peer: Peer, envs: Sequence[Envelope]) -> None:
        """Hand events of one session to its home's front; returns once the session has taken them all.

        Raises UnknownSession if it sleeps there, what its home raises, and HostLost: then it is not known
        whether they were taken.
        """
        waiting = self._waiting.get(peer)
        if waiting is None:
            raise RuntimeUnavailable(f"front {peer.name!r} is not connected")
        items = self._parcels.pack(envs)
        await self._flow.room(peer, size_bytes(items))
        number = next(self._numbers)
        answer = waiting[number] = asyncio.get_running_loop().create_future()
        peer.send((HAND, number, items))
        try:
            async with asyncio.timeout(_TAKEN_S):
                await answer
        except TimeoutError:
            raise DeadlineExceeded(f"front {peer.name!r} has not taken an event within {_TAKEN_S:g} s") from None
        finally:
            waiting.pop(number, None)

    async def close(self) -> None:
        """End what is being taken here; idempotent."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- the part -------------------------------------------------------------------------------

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """The verbs of handing over."""
        return {HAND: self._hand, HANDED: self._handed}

    def connected(self, peer: Peer) -> None:
        """Events may go there."""
        self._waiting[peer] = {}

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """What was handed to it has no answer."""
        for answer in self._waiting.pop(peer, {}).values():
            if not answer.done():
                answer.set_exception(HostLost(f"front {peer.name!r} was lost; the session may have taken it"))

    def _handed(self, peer: Peer, message: Message) -> None:
        _, number, fields = message
        answer = self._waiting[peer].get(number)
        if answer is None or answer.done():
            return
        if fields is None:
            answer.set_result(None)
        else:
            answer.set_exception(error_of_fields(fields))

    def _hand(self, peer: Peer, message: Message) -> None:
        _, number, items = message
        self._flow.taken(peer, size_bytes(items))
        task = asyncio.get_running_loop().create_task(self._give(peer, number, items), name=f"hand over {number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give(self, peer: Peer, number: int, items: Sequence[bytes]) -> None:
        fields = None
        try:
            envs = self._parcels.unpack(items)
            home = self._directory.find(envs[0][TENANT], envs[0][SESSION])
            if home is None:
                raise UnknownSession("this session sleeps; nobody is there to read", reason="ASLEEP")
            await home.outbound.emit_all(envs)
        except LanewayError as error:
            fields = error_fields(error)
        except Exception as error:
            fields = error_fields(HandlerFailed(f"taking an event raised {type(error).__name__}: {error}"))
        peer.send((HANDED, number, fields))
