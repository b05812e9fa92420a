"""The documents pool of the actors' tests, for replicas."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from laneway.actors.sync.bounds import SyncPolicy
from laneway.actors.sync.documents import Documents
from laneway.engine.documents.yjs import YjsEngine
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, KIND, SESSION, envelope


class LoopClock:
    """The running loop's time."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()


class Pool:
    """Documents over a memory store; `told[session]` collects (kind, body)."""

    def __init__(self, store=None) -> None:
        self.told: dict[str, list] = {}
        self.kinds = KindTable()
        self.store = store or MemoryStore(epoch="epoch")
        policy = SyncPolicy(tick_s=0.0, state_tick_s=0.0, idle_s=1e9)
        self.documents = Documents(
            self.store, YjsEngine(), outlet=self, clock=LoopClock(), kinds=self.kinds, policy=policy
        )

    async def emit(self, env) -> None:
        self.told.setdefault(env[SESSION], []).append((env[KIND], env[BODY]))

    async def send(self, session, kind, body) -> None:
        fields = {"tenant": "t", "session": session, "lane": self.kinds.lane(kind), "entity": "d", "body": body}
        env = envelope(kind, producer=f"p-{session}", counter=1, **fields)

        async def emit(out):
            self.told.setdefault(session, []).append((out.kind, out.body))

        await self.documents.handle(env, SimpleNamespace(emit=emit))

    async def quiet(self) -> None:
        """Until nobody is being told anything."""
        for _ in range(1_000):
            await asyncio.sleep(0)
            if not self.documents.statistics().telling:
                return
        raise AssertionError("the pool does not come to rest")

    def take(self, session):
        return self.told.pop(session, [])


@pytest.fixture(scope="session")
def pool_of():
    """Make a Pool inside a running loop."""
    return Pool
