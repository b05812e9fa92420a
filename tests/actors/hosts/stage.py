"""The other side of a remote cell, for tests: a host that says what it is told to, and one that runs a cell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.hosts.peers import ANSWER, ASK, CANCEL, DELIVER, DONE, EMIT, EMITTED, ROOM, Message, Peer
from laneway.actors.hosts.remote_cells import RemoteCells
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.pools.cell import Cell
from laneway.actors.pools.context import Surroundings
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Outcome, Principal
from laneway.engine.app.packing import HostPacking
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy
from laneway.routing.envelope import NO_DEADLINE, Envelope, envelope
from laneway.routing.errors import LanewayError
from laneway.routing.lanes import Lane
from tests.actors.pairs import End, connect

__all__ = ["Front", "ReadyTaker", "RunningHost", "ScriptedHost", "Taker", "host_kinds"]


def host_kinds() -> KindTable:
    return KindTable(
        [
            Kind("WORK", Lane.NORMAL, direction=IN),
            Kind("URGENT", Lane.CRITICAL, direction=IN),
            Kind("IDLE", Lane.LOW, direction=IN, durable=False),
        ]
    )


class Taker:
    """An outlet that keeps what it takes; it can be shut, and told to raise."""

    def __init__(self) -> None:
        self.envs: list[Envelope] = []
        self.error: Exception | None = None
        self._open = asyncio.Event()
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    def let_go(self) -> None:
        self._open.set()

    async def emit(self, env: Envelope) -> None:
        await self.emit_all([env])

    async def emit_all(self, envs: list[Envelope]) -> None:
        for env in envs:
            await self._open.wait()
            if self.error is not None:
                raise self.error
            self.envs.append(env)

    def said(self) -> list[bytes]:
        return [env[11] for env in self.envs]


class ReadyTaker(Taker):
    """One that takes at once while it is open, `least` events at a time at most."""

    def __init__(self, least: int = 1_000) -> None:
        super().__init__()
        self.at_once = least

    def emit_ready(self, envs: Sequence[Envelope]) -> int:
        if self.error is not None:
            raise self.error
        taken = min(len(envs), self.at_once) if self._open.is_set() else 0
        self.envs += envs[:taken]
        return taken


class ScriptedHost:
    """Keeps what it is sent, and says what a test makes it say."""

    def __init__(self) -> None:
        self.board = Switchboard()
        self.board.add(self)
        self.came: list[Message] = []
        self.delivered: dict[int, Envelope] = {}
        self.peer: Peer
        self.errors: list[LanewayError] = []
        self._packer = HostPacking(host_kinds())

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        return dict.fromkeys((DELIVER, CANCEL, EMITTED, ANSWER), self._take)

    def connected(self, peer: Peer) -> None:
        self.peer = peer

    def lost(self, peer: Peer, error: LanewayError) -> None:
        self.errors.append(error)

    def _take(self, peer: Peer, message: Message) -> None:
        self.came.append(message)
        if message[0] == DELIVER:
            self.delivered[message[1]] = self._packer.unpack(message[3], 1000.0)

    def of(self, verb: int) -> list[Message]:
        """What came of one verb, without the verb."""
        return [message[1:] for message in self.came if message[0] == verb]

    @property
    def counters(self) -> list[int]:
        """Counters of the delivered events, in order."""
        return [env[1] for env in self.delivered.values()]

    def room(self, ordinary: int, critical: int = 1, pool: str = "p", cell: str = "p/0") -> None:
        self.peer.send((ROOM, 0, pool, cell, ordinary, critical))

    def emit(self, number: int, *bodies: bytes, **fields: Any) -> int:
        """Say something for a delivery; returns the bytes."""
        packed = self.packed(number, *bodies, **fields)
        urgent = self.delivered[number][7] == Lane.CRITICAL
        self.peer.send((EMIT, number, packed), urgent=urgent)
        return sum(map(len, packed))

    def packed(self, number: int, *bodies: bytes, **fields: Any) -> list[bytes]:
        """Events of a delivery as they travel."""
        own = self.delivered[number]
        made = {"tenant": own[3], "session": own[4], "run": own[5], "lane": Lane.NORMAL, **fields}
        return [
            self._packer.pack(
                envelope("WORK", producer="engine/p", counter=index, body=body, deadline=NO_DEADLINE, **made), 0.0
            )
            for index, body in enumerate(bodies, 1)
        ]

    def done(self, number: int, status: str = "handled", value: bytes = b"", code: str = "") -> None:
        urgent = self.delivered[number][7] == Lane.CRITICAL
        self.peer.send((DONE, number, status, value, code, "so it ended" if code else "", False), urgent=urgent)

    def ask(self, question: int, number: int, env: Envelope, timeout_s: float = 9.0) -> None:
        self.peer.send((ASK, question, number, self._packer.pack(env, 1000.0), timeout_s))


class RunningHost(ScriptedHost):
    """Runs a real cell for whoever connects."""

    def __init__(self, rig: Any, handler: Any, *, concurrency: int = 1, **options: Any) -> None:
        super().__init__()
        self._numbers: dict[tuple[str, int], int] = {}
        self.clock = rig.VirtualClock(asyncio.get_running_loop())
        self.cell = Cell(
            "p/0",
            handler,
            concurrency=concurrency,
            clock=self.clock,
            make_context=rig.Context,
            on_done=self._ended,
            **options,
        )
        self.free = (self.cell.free(), self.cell.free(critical=True))

    def connected(self, peer: Peer) -> None:
        super().connected(peer)
        self.room(*self.free)

    def lost(self, peer: Peer, error: LanewayError) -> None:
        super().lost(peer, error)
        self._numbers.clear()
        self.cell.cancel(lambda env: True, "its front is lost")

    def _take(self, peer: Peer, message: Message) -> None:
        super()._take(peer, message)
        if message[0] == DELIVER:
            env = self._packer.unpack(message[3], self.clock.now())
            self._numbers[env[0], env[1]] = message[1]
            self.cell.deliver(env)
        elif message[0] == CANCEL:
            self.cell.cancel(lambda env: self._numbers.get((env[0], env[1])) == message[1], message[2])

    def _ended(self, env: Envelope, outcome: Outcome) -> None:
        number = self._numbers.pop((env[0], env[1]), None)
        if number is not None:
            told = (outcome.status, outcome.value, outcome.code, outcome.message, outcome.retryable)
            self.peer.send((DONE, number, *told), urgent=env[7] == Lane.CRITICAL)


class Front:
    """A dispatcher with remote pools, in virtual time."""

    def __init__(self, rig: Any, *specs: PoolSpec, journal: Any = None, tracer: Any = None) -> None:
        self.rig = rig
        self.clock = rig.VirtualClock(asyncio.get_running_loop())
        self.taker, self.answers, self.probe = Taker(), rig.Answers(), rig.Probe()
        kinds = host_kinds()
        around = Surroundings(self.taker, self.clock, kinds, lambda: "call", tracer=tracer)
        self.core = DispatchCore(kinds, DispatchPolicy())
        self.dispatcher = Dispatcher(self.core, around, journal=journal, probe=self.probe)
        for spec in specs:
            self.dispatcher.add_pool(spec)
        self.cells = RemoteCells(
            self.dispatcher,
            outlet=self.taker,
            clock=self.clock,
            packer=HostPacking(kinds),
            principal=lambda env: Principal("alice", env[3], frozenset({"b", "a"}), 99.0),
            history=lambda tenant, session: [{"id": "m1", "role": "user", "content": session}],
            probe=self.probe,
        )
        self.board = Switchboard()
        self.board.add(self.cells)

    def connect(self, host: ScriptedHost, name: str = "h1", incarnation: str = "1") -> End:
        """Join a host; returns this front's peer."""
        return connect(self.board, host.board, "front", name, incarnation=incarnation)[0]

    def offer(self, *counters: int, **fields: Any) -> list[Any]:
        fields.setdefault("accepted", self.clock.now())
        events = [self.rig.event(counter, **fields) for counter in counters]
        return self.dispatcher.offer_batch(events, self.answers.all)

    def books(self) -> Any:
        """The books, which must balance, and agree with what the decisions hold."""
        s = self.dispatcher.statistics()
        assert self.core.statistics().pending == s.pending + s.reserved
        assert s.accepted == s.handled + s.expired + s.dropped + s.cancelled + s.failed + s.dead + s.pending
        return s

    async def __aenter__(self) -> Front:
        await self.dispatcher.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.dispatcher.close()
        await self.cells.close()
        self.books()
