"""The book of live streams: room, refusals, drain."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.ports import Principal
from laneway.engine.edge.streams import Streams
from laneway.routing.errors import Draining, LanewayError, Overloaded, RateLimited

ADA, BOB = Principal("ada"), Principal("bob")


class Stream:
    """Leaves when it is told to, or only when it is ended."""

    def __init__(self, *, polite: bool = True) -> None:
        self.told: list[LanewayError] = []
        self.over: asyncio.Future[LanewayError | None] = asyncio.get_running_loop().create_future()
        self._polite = polite

    def tell(self, error: LanewayError) -> None:
        self.told.append(error)
        if self._polite:
            self.end(None)

    def end(self, error: LanewayError | None) -> None:
        if not self.over.done():
            self.over.set_result(error)


def test_room_for_all_and_for_each() -> None:
    """Above the total the edge is OVERLOADED, above one's own share RATE_LIMITED; both say when to retry."""

    async def main() -> None:
        streams = Streams(3, 2)
        with streams.hold(Stream(), ADA), streams.hold(Stream(), ADA):
            with pytest.raises(RateLimited) as refused:
                streams.check_room(ADA)
            assert refused.value.retry_after_ms == 1000
            with streams.hold(Stream(), BOB), pytest.raises(Overloaded), streams.hold(Stream(), BOB):
                pass
        assert len(streams) == 0
        streams.check_room(ADA)

    asyncio.run(main())


def test_a_drain_asks_first_and_ends_what_stays() -> None:
    """The polite leave at the notice, the others are ended after the grace; nobody comes in any more."""

    async def main() -> None:
        streams = Streams(10, 10, lambda: 0.5)

        async def serve(stream: Stream) -> LanewayError | None:
            with streams.hold(stream, ADA):
                return await stream.over

        polite, deaf = Stream(), Stream(polite=False)
        serving = [asyncio.create_task(serve(each)) for each in (polite, deaf)]
        await asyncio.sleep(0)
        await streams.drain(0.05)
        assert await serving[0] is None
        assert isinstance(await serving[1], Draining)
        assert [error.retry_after_ms for error in polite.told] == [1000]
        with pytest.raises(Draining):
            streams.check_room(BOB)
        await streams.drain(0.05)  # nobody is left: at once

    asyncio.run(main())
