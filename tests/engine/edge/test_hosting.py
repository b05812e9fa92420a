"""Streams over HTTP: counted while they live, over with their credentials."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.ports import Principal
from laneway.engine.edge.hosting import Hosting
from laneway.engine.edge.stream import StreamPolicy
from laneway.engine.edge.streams import Streams
from laneway.routing.errors import RateLimited, SessionExpired
from tests.engine.edge.double import Engine
from tests.engine.edge.test_stream import HELLO, Pipe


def test_a_stream_is_counted_and_leaves_no_reader() -> None:
    """One's own share is one here; the second is refused, and a pending read ends with its stream."""

    async def main() -> None:
        engine, streams = Engine(), Streams(10, 1)
        hosting = Hosting(engine, engine.clock, streams, StreamPolicy())
        pipe = Pipe()
        pipe.incoming.put_nowait(HELLO)
        first = hosting.stream(pipe, Principal("ada"), "sse")
        serving = asyncio.create_task(hosting.serve(first))
        assert "welcome" in await pipe.sent.get()
        with pytest.raises(RateLimited):
            await hosting.serve(hosting.stream(Pipe(), Principal("ada"), "sse"))
        first.end(None)
        assert await serving is None
        assert len(streams) == 0
        assert first.reader is not None
        assert first.reader.done()

    asyncio.run(main())


def test_a_stream_ends_with_its_credentials() -> None:
    """SESSION_EXPIRED as a notice at the time, and as the end after the grace."""

    async def main() -> None:
        engine = Engine()
        policy = StreamPolicy(expiry_grace_s=0.1)
        hosting = Hosting(engine, engine.clock, Streams(10, 10), policy, wall=lambda: 1000.0)
        pipe = Pipe()
        pipe.incoming.put_nowait(HELLO)
        async with asyncio.timeout(60):
            reason = await hosting.serve(hosting.stream(pipe, Principal("ada", expires_at=1000.1), "websocket"))
        assert isinstance(reason, SessionExpired)
        told = [pipe.sent.get_nowait() for _ in range(pipe.sent.qsize())]
        assert [header["notice"]["fatal"] for header in told if "notice" in header] == [False, True]

    asyncio.run(main())
