"""What an edge asks of the engine behind it, against the real engine."""

from __future__ import annotations

import asyncio

import pytest

from laneway import Engine, Principal
from laneway.engine.app.serving import EngineGateway
from laneway.engine.edge.gateway import Attachment, Gateway
from laneway.routing.errors import LinkClosed, PeerProtocolError
from laneway.routing.handshake import Hello


async def _until_closed(link: Attachment) -> None:
    while True:
        await link.frames()


def test_the_engine_is_a_gateway() -> None:
    """It opens a link whose first frame is the welcome; closed with an error, `frames` raises that error."""

    async def main() -> None:
        async with Engine() as engine, asyncio.timeout(60):
            gateway: Gateway = EngineGateway(engine)
            link: Attachment = await gateway.attach(
                Hello(versions=(1,), client="c1", session="s1"), Principal("ada", "acme")
            )
            welcome = (await link.frames())[0].header["welcome"]
            assert (welcome["session"], welcome["resume"]) == ("s1", "new")
            reason = LinkClosed("the wire is gone")
            await link.close(reason)
            await link.close()
            with pytest.raises(LinkClosed, match="the wire is gone"):
                await _until_closed(link)

    asyncio.run(main())


def test_calls_answer_or_are_refused() -> None:
    """A known question gets its answer; an unknown one is a PeerProtocolError that names it."""

    async def main() -> None:
        async with Engine() as engine, asyncio.timeout(60):
            gateway: Gateway = EngineGateway(engine)
            assert await gateway.call("tools", {}, (), Principal("ada", "acme")) == []
            with pytest.raises(PeerProtocolError, match="guess"):
                await gateway.call("guess", {}, (), Principal("ada", "acme"))

    asyncio.run(main())
