"""One client of a session reads, others do not: over real gRPC streams that nobody takes anything from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest

from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Context, Out
from laneway.engine.app.engine import Engine
from laneway.engine.client import Client
from laneway.engine.config import Config, SessionConfig
from laneway.engine.frames import Frames
from laneway.engine.proto.message import SESSION_METHOD, unwrap, wrap
from laneway.routing.classify import KindTable
from laneway.routing.envelope import KIND
from laneway.routing.inbox import Inbox

WORDS = 5_000
FRAMES = Frames(KindTable(), lambda: 0.0)
LEAN = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384), ("grpc.use_local_subchannel_pool", 1))
"""A transport that holds 15 KiB for a reader that does not read, not 4 MiB."""
TOLD = "".join(f"{number:05d}{'x' * 94} " for number in range(WORDS))


class Tale:
    """Half a megabyte, as fast as it is taken: eight windows of credit."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield vocabulary.text_start("m")
        for at in range(0, len(TOLD), 100):
            yield vocabulary.text("m", TOLD[at : at + 100])
        yield vocabulary.text_end("m")


async def _told(client: Client, run: str) -> str:
    text = ""
    async for event in client:
        text += event.text if event.kind == "TEXT_MESSAGE_CONTENT" else ""
        if event.ends_run and event.run == run:
            return text
    raise AssertionError("the client ended before the run did")


@pytest.mark.parametrize("grants", [True, False])
def test_who_does_not_read_costs_the_reader_nothing_and_reads_later(grants: bool) -> None:
    """The stalled stream is open, and nothing was ever read of it; the reader has every byte. Then it reads too."""

    async def main() -> None:
        config = Config(session=SessionConfig(pace_bytes_per_s=16_777_216))
        async with asyncio.timeout(90), Engine(config) as engine:
            engine.nlp.use(Tale())
            edge = await engine.serve_grpc()
            target = f"127.0.0.1:{edge.port}"
            async with (
                grpc.aio.insecure_channel(target, options=LEAN) as channel,
                Client(target, session="s") as reader,
            ):
                stalled = channel.stream_stream(SESSION_METHOD)()
                hello = {"v": [1], "client": "stalled", "session": "s", "caps": {"grants": grants}}
                await stalled.write(wrap(FRAMES.encode({"hello": hello}, ())))
                home = await engine.directory.open("default", "s")
                while len(home.links) < 2:  # noqa: ASYNC110 (a condition of the engine, not of this test)
                    await asyncio.sleep(0.005)
                run = (await reader.send("tell")).run
                assert await _told(reader, run) == TOLD
                assert not stalled.done(), "it was neither waited for nor closed"
                link = home.links.get("stalled")
                assert link is not None
                assert link.link.statistics().pending[1] > 0
                assert (await _read_late(stalled, grants)).decode() == TOLD

    asyncio.run(main())


async def _read_late(call: Any, grants: bool) -> bytes:
    """Read a stream from its beginning, as a client that was asleep."""
    inbox, text = Inbox(), b""
    while True:
        header, envelopes = FRAMES.decode(unwrap(await call.read()))
        for received in inbox.receive(header, envelopes, 0.0):
            text += received.envelope[11] if received.envelope[KIND] == "TEXT_MESSAGE_CONTENT" else b""
            if received.envelope[KIND] == "RUN_FINISHED":
                return text
        if grants and inbox.position is not None:
            granted = {"grant": inbox.position + 262_144, "ack": list(inbox.cursor[:3])}
            await call.write(wrap(FRAMES.encode(granted, ())))
