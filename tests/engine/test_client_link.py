"""One connection of a client: how each kind of end is told. Reconnecting is in test_client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from laneway.engine.client_errors import log_failure
from laneway.engine.client_events import EventQueue
from laneway.engine.client_link import ClientLink, Pulse
from laneway.engine.client_outbox import Outbox
from laneway.engine.testing.proxy import Proxy
from laneway.routing.classify import KindTable
from laneway.routing.errors import LinkClosed, RuntimeUnavailable
from laneway.routing.inbox import Inbox
from tests.engine.edge.rawclient import edge

HELLO = {"v": [1], "client": "c1", "session": "s1", "cursor": None, "skip": 0, "grant": None, "caps": {"grants": True}}


@asynccontextmanager
async def linked(target: str, **times: float) -> AsyncIterator[tuple[ClientLink, asyncio.Task[Any]]]:
    """A running link over a channel of its own."""
    async with grpc.aio.insecure_channel(target) as channel, asyncio.timeout(30):
        link = ClientLink(
            channel,
            HELLO,
            (),
            inbox=Inbox(),
            outbox=Outbox(),
            events=EventQueue(),
            kinds=KindTable(),
            pulse=Pulse(**times),
            on_result=lambda event: None,
            on_failure=log_failure,
        )
        running = asyncio.create_task(link.run())
        try:
            yield link, running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def test_welcome_and_goodbye() -> None:
    """The welcome tells where sending starts; `leave` ends it as LinkClosed."""

    async def main() -> None:
        async with edge() as (_, _, target), linked(target) as (link, running):
            assert (await link.welcome)["resume"] == "new"
            await link.leave()
            assert isinstance(await running, LinkClosed)

    asyncio.run(main())


def test_cancelling_it() -> None:
    """A cancel goes through: the link and the read inside it end as cancelled."""

    async def main() -> None:
        async with edge() as (_, _, target), linked(target) as (link, running):
            await link.welcome
            (reading,) = [task for task in asyncio.all_tasks() if "ClientLink._read" in repr(task)]
            running.cancel()
            await asyncio.wait({running})
            assert running.cancelled()
            assert reading.cancelled()

    asyncio.run(main())


def test_an_edge_that_never_answers() -> None:
    """No welcome in time: RuntimeUnavailable, CONNECT_TIMEOUT, and nobody waits for the welcome any more."""

    async def main() -> None:
        async with edge() as (served, _, _), Proxy(served.port) as proxy:
            proxy.stall()
            async with linked(proxy.target, connect_s=0.3) as (link, running):
                error = await running
                assert isinstance(error, RuntimeUnavailable)
                assert error.reason == "CONNECT_TIMEOUT"
                assert link.welcome.cancelled()

    asyncio.run(main())


def test_an_edge_that_falls_silent() -> None:
    """After the welcome, silence in spite of pings ends it: SILENT."""

    async def main() -> None:
        async with (
            edge() as (served, _, _),
            Proxy(served.port) as proxy,
            linked(proxy.target, heartbeat_s=0.1, dead_after_s=0.5) as (link, running),
        ):
            await link.welcome
            proxy.stall()
            error = await running
            assert isinstance(error, RuntimeUnavailable)
            assert error.reason == "SILENT"

    asyncio.run(main())


def test_a_cut_wire() -> None:
    """A reset connection ends it with an error that is worth a reconnect."""

    async def main() -> None:
        async with edge() as (served, _, _), Proxy(served.port) as proxy, linked(proxy.target) as (link, running):
            await link.welcome
            proxy.cut()
            assert (await running).retryable

    asyncio.run(main())
