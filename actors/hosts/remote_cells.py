"""The cells that other hosts serve for this front: made when a host announces them, gone with it.

Law of this file: a connection's cells, deliveries and numbers are its own; nothing of an older life of
a host is believed. A host that does not keep the rules loses its connection, and nothing else happens:
what it had goes the way of every lost host's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from laneway.actors.dispatch.books import ENDINGS
from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.endings import cancelled
from laneway.actors.hosts.carriage import Carriage, Desk, answer_of
from laneway.actors.hosts.peers import ASK, DONE, EMIT, HANDLED, ROOM, UNREAD, Message, Peer
from laneway.actors.hosts.remote_cell import RemoteCell
from laneway.actors.meters import by_lane
from laneway.actors.packer import Packer
from laneway.actors.ports import Clock, Outcome, Outlet, Principal, Probe
from laneway.routing.envelope import Envelope
from laneway.routing.errors import LanewayError, PeerProtocolError

__all__ = ["RemoteCells"]

_MAX_CELLS: Final = 1_024
"""Of one host: far more than it has cores for."""
_MAX_TIMEOUT_S: Final = 86_400.0
_HANDLED: Final = Outcome("handled")
_GIVEN_BY_HOSTS: Final = frozenset(ENDINGS) - {"dead"}
"""How a host may say that an event ended; only a front gives one up for dead."""


@dataclass(slots=True)
class _Host:
    """One connection to a host that may serve pools of ours."""

    peer: Peer
    rooms: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    cells: dict[tuple[str, str], RemoteCell] = field(default_factory=dict)
    newest: int = 0

    def number(self) -> int:
        """Return the next delivery's number."""
        self.newest += 1
        return self.newest

    def find(self, number: int) -> tuple[RemoteCell, Carriage] | None:
        """Return who has a delivery, or None if it is over. Raises PeerProtocolError if there never was one."""
        if not 0 < number <= self.newest:
            raise PeerProtocolError(f"host {self.peer.name} speaks of delivery {number}, which was never made")
        for cell in self.cells.values():
            if (carriage := cell.carried.get(number)) is not None:
                return cell, carriage
        return None


class RemoteCells:
    """A `switchboard.Part` for ROOM, EMIT, DONE, HANDLED, ASK and UNREAD. Lives on one event loop.

    Args:
        dispatcher: whose remote pools are served.
        outlet: takes emitted events to their session, in order.
        packer: envelope <-> bytes between hosts.
        principal: whose event it is.
        history: (tenant, session) -> its AG-UI messages.
        probe: counters `cell.joined`, `cell.lost`, `cell.abandoned`; histogram `queue.wait` per lane.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        outlet: Outlet,
        clock: Clock,
        packer: Packer,
        principal: Callable[[Envelope], Principal],
        history: Callable[[str, str], Sequence[Mapping[str, Any]]],
        probe: Probe | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._probe = probe
        self._waited = by_lane(probe, "queue.wait")
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts: dict[str, _Host] = {}
        self._desk = Desk(
            outlet,
            clock,
            packer,
            principal,
            history,
            ask=partial(dispatcher.ask, nested=True),
            number=dispatcher.number,
            spawn=self._spawn,
            ready=getattr(outlet, "emit_ready", None),
        )

    # -- the part -------------------------------------------------------------------------------

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """Return what takes each verb's messages."""
        return {
            ROOM: self._on_room,
            EMIT: self._on_emit,
            DONE: self._on_done,
            ASK: self._on_ask,
            HANDLED: self._on_handled,
            UNREAD: self._on_unread,
        }

    def connected(self, peer: Peer) -> None:
        """A host is there; an older life of it is over, whether that was told or not."""
        older = self._hosts.get(peer.name)
        if older is not None:
            self._lose(older)
        self._hosts[peer.name] = _Host(peer)

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """A host is gone, with its cells."""
        host = self._of(peer)
        if host is not None:
            del self._hosts[peer.name]
            self._lose(host)

    def welcome(self, pool: str) -> None:
        """A remote pool was added: hosts that serve it already have announced their cells before."""
        for host in self._hosts.values():
            for (of_pool, cell), room in host.rooms.items():
                if of_pool == pool:
                    self._allow(host, of_pool, cell, room)

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts that serve a pool of this front, in the order of their coming."""
        return [name for name, host in self._hosts.items() if host.cells]

    async def close(self) -> None:
        """End what still waits for a session or an outcome. After the dispatcher's drain; idempotent."""
        self._desk.tellings.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- messages -------------------------------------------------------------------------------

    def _on_room(self, peer: Peer, message: Message) -> None:
        _, _, pool, cell, ordinary, critical = message
        host = self._of(peer)
        if host is None:
            return
        if not (type(pool) is type(cell) is str and type(ordinary) is type(critical) is int):
            raise PeerProtocolError(f"host {peer.name} announced no cell but {message[2:]!r:.200}")
        if len(host.rooms) >= _MAX_CELLS and (pool, cell) not in host.rooms:
            raise PeerProtocolError(f"host {peer.name} announced more than {_MAX_CELLS} cells")
        host.rooms[pool, cell] = room = (max(0, ordinary), max(0, critical))
        self._allow(host, pool, cell, room)

    def _allow(self, host: _Host, pool: str, cell: str, room: tuple[int, int]) -> None:
        """Keep a cell's limits current, and make it if it is new and of a remote pool of ours."""
        known = host.cells.get((pool, cell))
        if known is not None:
            known.allow(*room)
            return
        own = self._dispatcher.pool(pool)
        if own is None or not own.spec.remote:
            return
        made = RemoteCell(cell, host.peer, own, self._desk, number=host.number, waited=self._waited, probe=self._probe)
        host.cells[pool, cell] = made
        made.allow(*room)
        own.join(made)
        self._count("cell.joined", pool)

    def _on_emit(self, peer: Peer, message: Message) -> None:
        _, number, packed = message
        found = self._find(peer, number)
        if found is not None:
            found[1].emit(packed)

    def _on_unread(self, peer: Peer, message: Message) -> None:
        _, number, policy = message
        found = self._find(peer, number)
        if found is not None:
            found[1].when_unread(policy)

    def _on_done(self, peer: Peer, message: Message) -> None:
        _, number, status, value, code, text, retryable = message
        if status not in _GIVEN_BY_HOSTS or type(value) is not bytes:
            raise PeerProtocolError(f"host {peer.name} ended delivery {number} as {status!r}")
        found = self._find(peer, number)
        if found is not None:
            cell, carriage = found
            cell.done(carriage, Outcome(status, value, str(code), str(text), bool(retryable)))

    def _on_handled(self, peer: Peer, message: Message) -> None:
        host = self._of(peer)
        if host is None:
            return
        for number, packed in message[2]:
            found = host.find(number)
            if found is not None:
                cell, carriage = found
                if packed:
                    carriage.emit(packed)
                cell.done(carriage, _HANDLED)

    def _on_ask(self, peer: Peer, message: Message) -> None:
        _, question, number, packed, timeout_s = message
        found = self._find(peer, number)
        if found is not None:
            found[1].ask(question, packed, min(max(0.0, float(timeout_s)), _MAX_TIMEOUT_S))
        else:
            peer.send(answer_of(question, cancelled("whoever asked is over")))

    def _find(self, peer: Peer, number: int) -> tuple[RemoteCell, Carriage] | None:
        host = self._of(peer)
        return None if host is None else host.find(number)

    # -- inside ---------------------------------------------------------------------------------

    def _of(self, peer: Peer) -> _Host | None:
        """The host of this very connection."""
        host = self._hosts.get(peer.name)
        return host if host is not None and host.peer is peer else None

    def _lose(self, host: _Host) -> None:
        for (pool, _), cell in host.cells.items():
            self._count("cell.lost", pool)
            cell.lost()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _count(self, name: str, pool: str) -> None:
        if self._probe is not None:
            self._probe.count(name, pool=pool)
