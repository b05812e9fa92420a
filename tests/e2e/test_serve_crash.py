"""kill -9 of a server under load, and a second one on the same store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from laneway.engine.client import Client
from laneway.engine.client_outbox import Receipt
from laneway.engine.delivery import Event
from laneway.engine.models.synthetic import SyntheticModel
from laneway.engine.testing.proxy import Proxy
from laneway.routing.backoff import Backoff
from laneway.routing.envelope import envelope_id
from tests.e2e.serving import Server, logged
from tests.redis_server import redis_server

SESSIONS = ("s0", "s1", "s2")
MESSAGES = 30
KILL_AFTER = 40
"""Durable OKs, of 90, after which the server dies."""


class Load:
    """One client of one session: sends, reads, remembers."""

    def __init__(self, target: str, session: str) -> None:
        self.session = session
        self.client = Client(target, session=session, backoff=Backoff(lambda: 0.5, base_s=0.05, cap_s=0.3))
        self.receipts: dict[str, Receipt] = {}
        self.events: list[Event] = []
        self.all_ended = asyncio.Event()

    async def send(self, accepted: asyncio.Semaphore) -> None:
        for number in range(MESSAGES):
            text = f"question {number} of {self.session}"
            self.receipts[text] = await self.client.send(text)
            accepted.release()

    async def read(self) -> None:
        """Read until every message's run has ended."""
        ended = 0
        async for event in self.client:
            self.events.append(event)
            ended += event.ends_run
            if ended == MESSAGES:
                self.all_ended.set()
                return

    def text(self, run: str) -> str:
        return "".join(e.text for e in self.events if e.run == run and e.kind == "TEXT_MESSAGE_CONTENT")


async def _live_through(store: str) -> list[Load]:
    """Send and read while the server is killed and started again."""
    accepted = asyncio.Semaphore(0)
    async with Server(store) as server, Proxy(server.port) as proxy, asyncio.timeout(90):
        loads = [Load(proxy.target, session) for session in SESSIONS]
        for load in loads:
            await load.client.__aenter__()
        try:
            async with asyncio.TaskGroup() as work:
                for load in loads:
                    work.create_task(load.send(accepted))
                    work.create_task(load.read())
                for _ in range(KILL_AFTER):
                    await accepted.acquire()
                await server.kill()
                async with Server(store) as second:
                    proxy.retarget(second.port)
                    proxy.cut()
                    while any(len(load.receipts) < MESSAGES for load in loads):
                        await accepted.acquire()
                    await asyncio.gather(*(load.all_ended.wait() for load in loads))
        finally:
            for load in loads:
                await load.client.close()
    return loads


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where both servers keep their logs."""
    if request.param == "sqlite":
        yield str(tmp_path / "engine.db")
        return
    with redis_server(tmp_path / "redis") as server:
        yield server.url


def test_everything_acknowledged_survives_kill_9(store: str) -> None:
    """Each durable OK is in the log once; each run ends once, whole or with HOST_LOST; no text is doubled."""

    async def main() -> None:
        loads = await _live_through(store)
        lost = 0
        for load in loads:
            accepted, numbered = await logged(store, load.session)
            ids = Counter(envelope_id(env) for env in accepted)
            bodies = Counter(env[11].decode() for env in accepted)
            assert {receipt.status for receipt in load.receipts.values()} <= {"durable", "duplicate"}
            for text, receipt in load.receipts.items():
                assert ids[receipt.id] == 1
                assert bodies[text] == 1
            ends = Counter(env[5] for env in numbered if env[2] in ("RUN_FINISHED", "RUN_ERROR"))
            assert ends == Counter(receipt.run for receipt in load.receipts.values())
            assert load.client.reconnects >= 1
            lost += _check_runs(load)
        assert lost, "no run was in flight when the server died"

    asyncio.run(main())


def _check_runs(load: Load) -> int:
    """Check what the client saw of each run; returns how many ended with HOST_LOST."""
    model = SyntheticModel()
    lost = 0
    for text, receipt in load.receipts.items():
        (end,) = [event for event in load.events if event.run == receipt.run and event.ends_run]
        whole = "".join(model.words(load.session, text))
        if end.kind == "RUN_FINISHED":
            assert load.text(receipt.run) == whole
        else:
            lost += 1
            assert end.data["code"] == "HOST_LOST"
            assert whole.startswith(load.text(receipt.run))
    return lost
