"""One client as an edge holds it: frames in, frames out, and the waiting around the link."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from laneway.actors.ports import Entry
from laneway.actors.sessions.attachment import Attachment
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import (
    Draining,
    LanewayError,
    LinkClosed,
    LinkLost,
    PeerProtocolError,
    SlowConsumer,
    StoreError,
)
from laneway.routing.inbox import Inbox
from laneway.routing.link import LinkFrame
from laneway.routing.replay import Cursor
from tests.simulation.loop import run
from tests.simulation.stage import Stage


class _Shelf(MemoryStore):
    """A store whose reads can fail or find nothing any more."""

    reads: Any = staticmethod(lambda entries: entries)

    async def read(self, key: str, stream: int, first: int, max_bytes: int = 262_144) -> list[Entry]:
        entries: list[Entry] = self.reads(await super().read(key, stream, first, max_bytes))
        return entries


def test_the_welcome_comes_first() -> None:
    """Before anything else a link is told where it stands, then given the snapshot if it starts afresh."""

    async def main() -> None:
        stage = await Stage().start()
        await stage.emit("TEXT_MESSAGE_START", {"messageId": "m", "role": "assistant"})
        await stage.emit("TEXT_MESSAGE_CONTENT", "said before")
        await stage.settle()
        viewer = await stage.attach()
        await stage.emit("CUSTOM", {"n": 1})
        await viewer.read()
        assert [sorted(header)[0] for header in viewer.headers[:2]] == ["welcome", "snapshot"]
        assert viewer.kinds == ["MESSAGES_SNAPSHOT", "CUSTOM"]
        await stage.close()

    run(main())


def test_frames_wait_for_what_is_due() -> None:
    """Nothing comes while nothing is due; an event, an answer or a ping that is wakes the one who waits."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        await viewer.read()
        waiting = asyncio.create_task(viewer.attachment.frames())
        await asyncio.sleep(1.0)
        assert not waiting.done()
        await stage.emit("CUSTOM", {"n": 1})
        assert [env[2] for frame in await waiting for env in frame.envelopes] == ["CUSTOM"]
        await viewer.attachment.receive({"ping": 7}, ())
        assert (await viewer.attachment.frames())[0].header == {"pong": 7}
        viewer.attachment.tell(ok=[[1, 1, "durable"]])
        assert (await viewer.attachment.frames())[0].header == {"ok": [[1, 1, "durable"]]}
        async with asyncio.timeout(101):
            assert (await viewer.attachment.frames())[0].header == {"ping": 1}
        await stage.close()

    run(main())


def test_a_silent_client_is_lost() -> None:
    """Without a sign of life the link ends LINK_LOST after its time; what was due before is given first."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach(heartbeat_s=1.0)
        began = asyncio.get_running_loop().time()
        seen: list[LinkFrame] = []
        while not any("notice" in frame.header for frame in seen):
            seen += await viewer.attachment.frames()
        assert [frame.header["ping"] for frame in seen if "ping" in frame.header] == [1, 2]
        assert seen[-1].header["notice"]["code"] == "LINK_LOST"
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.5, abs=0.01)
        with pytest.raises(LinkLost):
            await viewer.attachment.frames()
        assert not viewer.attachment.live
        assert len((await stage.home()).links) == 0
        await stage.close()

    run(main())


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"ack": ["?", 0, 0]}, "EPOCH_MISMATCH"),
        ({"ack": "all"}, "BAD_TYPE"),
        ({"grant": -1}, "NUMBER_RANGE"),
        ({"ping": 1.5}, "BAD_TYPE"),
    ],
)
def test_a_frame_that_breaks_the_contract_is_refused(header: dict[str, object], reason: str) -> None:
    """The edge is told which rule was broken, and what it does then is its business: nothing was taken."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        await viewer.read()
        with pytest.raises(PeerProtocolError) as caught:
            await viewer.attachment.receive(header, [stage.event("USER_MESSAGE", b"hi")])
        assert caught.value.reason == reason
        assert (await viewer.read()).told("ok") == []
        assert viewer.attachment.live
        await stage.close()

    run(main())


def test_a_link_behind_the_ring_reads_the_log() -> None:
    """What memory does not hold any more comes from the store, complete and in order."""

    async def main() -> None:
        stage = await Stage(ring_events=16).start()
        viewer = await stage.attach(grant=1_000_000)
        await viewer.attachment.receive({"grant": 1_000_000}, ())
        for number in range(100):
            await stage.emit("CUSTOM", {"n": number})
        await stage.settle()
        await viewer.read()
        assert [msgpack.unpackb(item.envelope[11])["n"] for item in viewer.items] == list(range(100))
        await stage.close()

    run(main())


def _fail(entries: Sequence[Entry]) -> list[Entry]:
    raise StoreError("the disk is away")


@pytest.mark.parametrize(
    ("reads", "error"),
    [(_fail, StoreError), (lambda entries: [], SlowConsumer), (lambda entries: entries[1:], SlowConsumer)],
    ids=["failed", "empty", "trimmed"],
)
def test_a_log_that_cannot_give_the_rest_ends_the_link(reads: Any, error: type[LanewayError]) -> None:
    """A store that fails, or has trimmed what the link still needs, ends it: never a hole."""

    async def main() -> None:
        store = _Shelf()
        stage = await Stage(store, ring_events=16).start()
        viewer = await stage.attach()
        for number in range(100):
            await stage.emit("CUSTOM", {"n": number})
        await stage.settle()
        store.reads = reads
        await viewer.read()
        assert viewer.items == []
        assert viewer.told("notice")[-1]["code"] == error.code
        with pytest.raises(error):
            await viewer.attachment.frames()
        await stage.close()

    run(main())


def test_the_session_ends_a_link_after_what_is_due() -> None:
    """An end from the session's side lets the events before it through, then is raised, again and again."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        await stage.emit("CUSTOM", {"n": 1})
        await (await stage.home()).flush()
        viewer.attachment.end(Draining("go elsewhere"))
        viewer.attachment.end(LinkLost("the first reason stays"))
        await viewer.read()
        assert viewer.kinds == ["CUSTOM"]
        assert viewer.told("notice")[-1]["fatal"] is True
        for _ in range(2):
            with pytest.raises(Draining):
                await viewer.attachment.frames()
        await stage.close()

    run(main())


def test_leaving_is_not_cancelling() -> None:
    """A client that says goodbye, or whose edge closes it, is gone; its resume finds what it missed."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await (await stage.attach()).read()
        waiting = asyncio.create_task(viewer.attachment.frames())
        await asyncio.sleep(0.01)
        await viewer.attachment.receive({"bye": True}, ())
        with pytest.raises(LinkClosed):
            await waiting
        assert len((await stage.home()).links) == 0
        await viewer.attachment.close()
        await viewer.attachment.close(LinkLost("twice is once"))
        await stage.emit("CUSTOM", {"n": 1})
        again = await (await stage.attach(inbox=viewer.inbox)).read()
        assert again.kinds == ["CUSTOM"]
        await stage.close()

    run(main())


def test_a_cancelled_reader_loses_nothing() -> None:
    """An edge that stops waiting for frames gets them with its next call."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await (await stage.attach()).read()
        waiting = asyncio.create_task(viewer.attachment.frames())
        await asyncio.sleep(0.01)
        await stage.emit("CUSTOM", {"n": 1})
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (await viewer.read()).kinds == ["CUSTOM"]
        await stage.close()

    run(main())


def test_a_client_without_grants_is_let_run_as_it_is_sent() -> None:
    """Who never grants is paced, and what was sent to it makes room for producers."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach(grants=False, inbox=Inbox(Cursor()))
        body = "x" * 4000
        producer = asyncio.create_task(_produce(stage, body, 60))
        async with asyncio.timeout(60):
            while len(viewer.text) < 60 * 4000:
                await viewer.read()
        await producer
        await stage.close()

    run(main())


async def _produce(stage: Stage, body: str, count: int) -> None:
    for _ in range(count):
        await stage.emit("TEXT_MESSAGE_CONTENT", body)


def test_attachments_are_made_by_links() -> None:
    """What an edge is given is an Attachment that knows its client and its principal."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach("me")
        assert isinstance(viewer.attachment, Attachment)
        assert (viewer.attachment.client, viewer.attachment.principal.subject) == ("me", "someone")
        await stage.close()

    run(main())
