"""A documents pool over a real store and the real CRDT, with sessions that record or are replicas."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import msgpack
import pytest

from laneway.actors.sync.bounds import SyncPolicy
from laneway.actors.sync.documents import Documents
from laneway.engine.documents.replica import Replica
from laneway.engine.documents.yjs import YjsEngine
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, ENTITY, KIND, SESSION, TENANT, envelope
from laneway.routing.errors import UnknownSession


class LoopClock:
    """The running loop's time, virtual or not."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()


class House:
    """One process with one documents pool; what sessions are told lies in `told[session]`."""

    def __init__(self, rig, store=None, policy=None, engine=None) -> None:
        self.rig = rig
        self.store = store or MemoryStore()
        self.clock = LoopClock()
        self.told: dict[str, list] = {}
        self.gone: set[str] = set()
        self.stalled: dict[str, asyncio.Event] = {}
        self.probe = rig.Probe()
        self.kinds = KindTable()
        self.documents = Documents(
            self.store,
            engine or YjsEngine(),
            outlet=self,
            clock=self.clock,
            kinds=self.kinds,
            policy=policy or SyncPolicy(),
            probe=self.probe,
        )
        self._counter = 0

    async def emit(self, env) -> None:
        """The outlet."""
        assert env[TENANT] == "t"
        if env[SESSION] in self.gone:
            raise UnknownSession("the session is gone")
        if env[SESSION] in self.stalled:
            await self.stalled[env[SESSION]].wait()
        self.told.setdefault(env[SESSION], []).append((env[KIND], env[BODY]))

    def event(self, kind, body, session="s", producer="", doc="d", tenant="t"):
        self._counter += 1
        lane = self.kinds.lane(kind)
        producer = producer or f"client-{session}"
        fields = {"tenant": tenant, "session": session, "lane": lane, "entity": doc, "body": body}
        return envelope(kind, producer=producer, counter=self._counter, **fields)

    async def send(self, kind, body, session="s", **fields) -> list:
        """Handle one event; returns what was emitted to its sender directly."""
        env = self.event(kind, body, session, **fields)
        context = self.rig.Context(env)
        await self.documents.handle(env, context)
        for out in context.outs:
            assert out.entity == env[ENTITY]
            self.told.setdefault(session, []).append((out.kind, out.body))
        return context.outs

    async def settle(self, seconds=1.0) -> None:
        """Let virtual time pass: ticks, sweeps, retries."""
        await asyncio.sleep(seconds)

    def take(self, session):
        """What the session was told since the last call."""
        return self.told.pop(session, [])

    def states(self, session):
        """The AG-UI state events among it, unpacked."""
        return [(kind, msgpack.unpackb(body)) for kind, body in self.take(session) if kind.startswith("STATE_")]


class Peer:
    """A session whose client is a replica."""

    def __init__(self, house, session, doc="d", client_id=None) -> None:
        self.house, self.session, self.doc = house, session, doc
        self.replica = Replica(doc, client_id)

    async def join(self) -> None:
        await self.house.send("DOC_SYNC", self.replica.hello(), self.session, doc=self.doc)

    async def push(self) -> None:
        for body in self.replica.changes():
            await self.house.send("DOC_SYNC", body, self.session, doc=self.doc)

    async def pull(self) -> None:
        for kind, body in self.house.take(self.session):
            if kind in ("DOC_SYNC", "PRESENCE"):
                for answer in self.replica.receive(body):
                    await self.house.send("DOC_SYNC", answer, self.session, doc=self.doc)

    async def sync(self) -> None:
        await self.push()
        for _ in range(4):
            await self.house.settle()
            await self.pull()


@pytest.fixture(scope="session")
def sync(rig) -> SimpleNamespace:
    """House(store=..., policy=...), Peer, run."""

    def house(**fields):
        return House(rig, **fields)

    return SimpleNamespace(House=house, Peer=Peer, run=rig.run)
