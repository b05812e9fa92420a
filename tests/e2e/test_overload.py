"""An overloaded engine as clients see it: who is told to come back, and that a stop gets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from laneway import Client, Engine
from laneway.actors.nlp import vocabulary as v
from laneway.actors.ports import Context, Out
from laneway.routing.errors import Overloaded
from tests.e2e.doors import door, hmac, token
from tests.engine.edge.rawclient import raw

WITHIN_S = 60.0


class Endless:
    """A model that never ends by itself."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield v.text_start("m")
        while True:
            yield v.text("m", "more ")
            await asyncio.sleep(0.005)


def test_over_grpc_a_client_is_told_when_to_come_back_and_its_interrupt_passes() -> None:
    """At level 3: a run of a known session, a link to a new session, and an interrupt of what runs."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), Engine() as engine:
            engine.nlp.use(Endless())
            edge = await engine.serve_grpc()
            target = f"127.0.0.1:{edge.port}"
            async with Client(target, session="s", retries=0) as client:
                receipt = await client.send("begin")
                async for event in client:
                    if event.kind == "TEXT_MESSAGE_CONTENT":
                        break
                engine.overload.hold(3)
                with pytest.raises(Overloaded) as run:
                    await client.send("one more")
                assert (run.value.reason, run.value.retry_after_ms, run.value.retryable) == ("LEVEL_3", 3000, True)
                async with raw(target) as stranger:
                    await stranger.send({"hello": {"v": [1], "client": "c1", "session": "another"}})
                    told, error = await stranger.end()
                assert told is not None
                assert (told["code"], told["retry_after_ms"]) == ("OVERLOADED", 3000)
                assert isinstance(error, Overloaded)
                async with raw(target) as guest:  # this session is awake
                    assert (await guest.hello("s", client="guest"))["session"] == "s"
                await client.interrupt(receipt.run)
                async for event in client:
                    if event.ends_run:
                        assert event.data["outcome"] == {"type": "cancelled"}
                        break
                engine.overload.hold(None)
                assert (await client.send("now")).run
                await client.interrupt()

    asyncio.run(main())


def test_over_http_an_overloaded_engine_answers_503_and_stays_ready() -> None:
    """With Retry-After in seconds; `/readyz` tells the level."""

    async def main() -> None:
        async with door(hmac()) as here:
            here.engine.overload.hold(2)
            refused = await here.post("/v1/stream", token(), {"session": "new", "message": "hi"})
            assert (refused.status, refused.json["code"], refused.headers["retry-after"]) == (503, "OVERLOADED", "2")
            ready = await here.ask("GET", "/readyz")
            assert (ready.status, ready.body) == (200, b"ready, overload level 2\n")
            here.engine.overload.hold(0)
            assert (await here.ask("GET", "/readyz")).body == b"ready\n"

    asyncio.run(main())
