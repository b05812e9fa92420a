"""A client behind a network that becomes slow and good again: real gRPC through a proxy that throttles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from laneway import Context, Engine, Out
from laneway.engine.client import Client
from laneway.engine.testing.proxy import Proxy

WORDS = "words that go on and on without an end "


class Talker:
    """A model that says 273 characters twenty times a second, until it is stopped."""

    def __init__(self) -> None:
        self.said = ""

    async def stream(self, run: dict[str, Any], context: Context) -> AsyncIterator[Out]:
        yield Out("TEXT_MESSAGE_START", b"\x81\xa9messageId\xa1m", "m")
        while not context.cancelled:
            for _ in range(7):
                self.said += WORDS
                yield Out("TEXT_MESSAGE_CONTENT", WORDS.encode(), "m")
            await asyncio.sleep(0.05)


def _links(engine: Engine, grade: str) -> bool:
    return f'laneway_links_by_grade{{grade="{grade}"}} 1' in engine.metrics()


@pytest.mark.slow
def test_a_slow_network_gets_smaller_chunks_and_a_good_one_large_ones_again() -> None:
    """10 KB/s through 5 KB/s: pongs and acks come late, and chunks shrink; the grade is in the metrics, and the client
    knows it; with the network's return come the large chunks, and no character is missing."""

    async def main() -> None:
        talker = Talker()
        async with asyncio.timeout(60), Engine() as engine:
            engine.nlp.use(talker)
            edge = await engine.serve_grpc(port=0)
            async with Proxy(edge.port) as proxy, Client(proxy.target, session="s") as client:
                assert (client.quality["grade"], client.quality["chunk_chars"]) == ("good", 200)
                await client.send("talk")
                heard = ""

                async def hear(until: Callable[[int], bool]) -> list[int]:
                    nonlocal heard
                    sizes = []
                    async for event in client:
                        if event.kind == "TEXT_MESSAGE_CONTENT":
                            heard += event.text
                            sizes.append(len(event.text))
                            if until(sizes[-1]):
                                break
                    return sizes

                assert max(await hear(lambda size: size > 100)) <= 200
                proxy.throttle(5_000)
                await hear(lambda size: client.quality["grade"] != "good" and size <= 100)
                assert client.quality["chunk_chars"] <= 100
                assert _links(engine, "fair") or _links(engine, "poor")
                proxy.throttle(0)
                sizes = await hear(lambda size: client.quality["grade"] == "good" and size > 100)
                assert max(sizes) <= 200
                assert _links(engine, "good")
                assert heard == talker.said[: len(heard)]
                await client.interrupt()

    asyncio.run(main())
