"""The program of a pool host, in this process, and a front that connects to it over gRPC."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from laneway import Config, Engine
from laneway.actors.hosts.peers import DONE, ROOM, Message, Peer
from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.switchboard import Switchboard
from laneway.engine.app.clock import SystemClock
from laneway.engine.app.connections import connections
from laneway.engine.app.host import TELL, PoolHost
from laneway.engine.app.orders import HostOrder
from laneway.engine.runtime.program import HostFacts
from laneway.routing.errors import ConfigError, LanewayError, PeerProtocolError
from laneway.routing.membership import FRONT, POOL, Member, View
from tests.engine.app import hands

CONFIG = Config.model_validate({"runtime": {"kind": "ray"}})
SECRET = "s" * 32


class Rooms:
    """A front that only looks at what is announced."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self.gone: asyncio.Queue[LanewayError] = asyncio.Queue()
        self.peer: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()

    def handlers(self) -> dict[int, Callable[[Peer, Message], None]]:
        return dict.fromkeys((ROOM, DONE), lambda peer, message: self.heard.put_nowait(message))

    def connected(self, peer: Peer) -> None:
        if not self.peer.done():
            self.peer.set_result(peer)

    def lost(self, peer: Peer, error: LanewayError) -> None:
        self.gone.put_nowait(error)


def order(pool: str, *, extra: bool = False) -> bytes:
    return HostOrder(pool, CONFIG, engine(extra=extra).registrations()).to_bytes()


def engine(*, extra: bool = False) -> Engine:
    made = Engine(CONFIG)
    made.tools.add(hands.where)
    if extra:
        made.tools.add("tests.engine.app.shop:price")
    made.nlp.use("tests.engine.app.hands:Talker")
    made.pool("here", ["HERE"], hands.here, concurrency=3)
    return made


def facts(spec: bytes) -> HostFacts:
    return HostFacts("test", "host/x/0", "1", "x", "node", "127.0.0.1", os.getpid(), SECRET, "1", spec)


@asynccontextmanager
async def met(pool: str) -> AsyncIterator[tuple[PoolHost, Rooms, Questions, Peer]]:
    """A host of this pool, and a front that is connected to it."""
    host, rooms, questions, board = PoolHost(), Rooms(), Questions(), Switchboard()
    board.add(rooms)
    board.add(questions)
    plane = connections(FRONT, "front/a", "1", SECRET, "1", board, SystemClock(), CONFIG.runtime)
    try:
        presence = await host.start(facts(order(pool)))
        assert (presence.role, presence.pools) == (POOL, (pool,))
        await plane.start("127.0.0.1")
        plane.follow([Member("host/x/0", "1", POOL, presence.address)])
        yield host, rooms, questions, await rooms.peer
    finally:
        await plane.close()
        await questions.close()
        await host.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await main

    asyncio.run(bounded())


@pytest.mark.parametrize(("pool", "ordinary"), [("here", 6), ("tools", 512), ("nlp", 512)])
def test_a_host_announces_the_room_of_its_pool(pool: str, ordinary: int) -> None:
    """Twice what runs at once, to the only front; and it tells its load."""

    async def main() -> None:
        async with met(pool) as (host, rooms, _, _):
            _, _, of_pool, _, room, critical = await rooms.heard.get()
            assert (of_pool, room) == (pool, ordinary)
            assert critical > 0
            told = host.statistics()
            assert (told["load"], told["fronts"], told["draining"]) == (0.0, 1, False)

    run(main())


def test_a_host_is_told_more_while_it_runs() -> None:
    """A tool that the engine was given later is there; what is no registration is refused."""

    async def main() -> None:
        async with met("tools") as (host, _, questions, peer):
            await questions.ask(peer, TELL, "tell", engine(extra=True).registrations().to_bytes(), 10.0)
            assert host._tools is not None
            assert host._tools.get("price") is not None
            with pytest.raises(PeerProtocolError, match="told registrations"):
                await questions.ask(peer, TELL, "forget", b"", 10.0)
            with pytest.raises(ConfigError, match="same version"):
                await questions.ask(peer, TELL, "tell", b"\xc1", 10.0)

    run(main())


def test_a_drained_host_has_no_room_and_a_closed_one_is_gone() -> None:
    """Fronts hear both."""

    async def main() -> None:
        async with met("here") as (host, rooms, _, _):
            await rooms.heard.get()
            await host.drain(0.0)
            assert (await rooms.heard.get())[4:] == (0, 0)
            await host.close()
            await rooms.gone.get()

    run(main())


def test_a_life_that_is_over_lets_its_fronts_go() -> None:
    """They deliver again elsewhere; and a front that is no member any more is dropped likewise."""

    async def main() -> None:
        async with met("here") as (host, rooms, _, _):
            host.saw(View(1, (Member("front/a", "1", FRONT, "127.0.0.1:1"),), settled=True))
            host.dropped(ConfigError("dropped"))
            await rooms.gone.get()

    run(main())


def test_what_cannot_be_imported_keeps_a_host_from_starting() -> None:
    """The error names the path; a host that has not started can be closed."""

    async def main() -> None:
        spec = order("here").replace(b"hands:here", b"hands:gone")
        host = PoolHost()
        with pytest.raises(ConfigError, match=r"tests\.engine\.app\.hands:gone"):
            await host.start(facts(spec))
        await host.close()

    run(main())


def test_a_host_loads_its_model_before_the_first_run(caplog: pytest.LogCaptureFixture) -> None:
    """Beside what else begins; one that cannot be loaded keeps no host from starting, and is told."""

    async def main() -> None:
        made = Engine(CONFIG)
        made.nlp.use("tests.engine.app.hands:Loader")
        host = PoolHost()
        await host.start(facts(HostOrder("nlp", CONFIG, made.registrations()).to_bytes()))
        model = host._nlp.model
        assert isinstance(model, hands.Loader)
        await model.loaded.wait()
        await asyncio.sleep(0)
        await host.close()

    asyncio.run(main())
    assert "the weights are gone" in caplog.text
