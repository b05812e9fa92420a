"""One stream over a wire that is no gRPC: what every other edge gets from it."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from laneway.actors.ports import Principal
from laneway.engine.edge.stream import SessionStream, StreamPolicy, notice
from laneway.engine.frames import Frame
from laneway.routing.envelope import Envelope
from laneway.routing.errors import Draining, LanewayError, LinkLost, PeerProtocolError, SlowConsumer
from tests.engine.edge.double import Engine

HELLO: Frame = ({"hello": {"v": [1], "client": "c1", "session": "s1"}}, [])


class Pipe:
    """A wire in memory; `blocked` writes wait as with a peer that does not read."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.broken = False

    async def read(self) -> Frame | None:
        return await self.incoming.get()

    async def write(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        await self.flowing.wait()
        if self.broken:
            raise ConnectionError
        self.sent.put_nowait(dict(header))


def stream(pipe: Pipe, engine: Engine, **policy: Any) -> SessionStream:
    return SessionStream(pipe, engine, Principal("ada"), clock=engine.clock, policy=StreamPolicy(**policy))


async def served(pipe: Pipe, served_stream: SessionStream) -> LanewayError | None:
    async with asyncio.timeout(60):
        reason = await served_stream.serve()
    pipe.incoming.put_nowait(None)
    assert served_stream.reader is not None
    await served_stream.reader
    return reason


def test_a_peer_that_does_not_read_is_a_slow_consumer() -> None:
    """A write that waits longer than stall_s ends the stream; nothing more is written to it."""

    async def main() -> None:
        pipe, engine = Pipe(), Engine()
        pipe.flowing.clear()
        pipe.incoming.put_nowait(HELLO)
        assert isinstance(await served(pipe, stream(pipe, engine, stall_s=0.2)), SlowConsumer)
        assert pipe.sent.empty()
        assert engine.session("s1").attachments == {}

    asyncio.run(main())


def test_a_wire_that_breaks_ends_the_stream_without_a_reason() -> None:
    """A disconnect is no error of the session."""

    async def main() -> None:
        pipe, engine = Pipe(), Engine()
        pipe.broken = True
        pipe.incoming.put_nowait(HELLO)
        assert await served(pipe, stream(pipe, engine)) is None
        assert engine.session("s1").attachments == {}

    asyncio.run(main())


def test_a_cancelled_stream_detaches() -> None:
    """The wire's owner may cancel; the link leaves the session all the same."""

    async def main() -> None:
        pipe, engine = Pipe(), Engine()
        pipe.incoming.put_nowait(HELLO)
        task = asyncio.create_task(stream(pipe, engine).serve())
        await pipe.sent.get()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert engine.session("s1").attachments == {}
        pipe.incoming.put_nowait(None)

    asyncio.run(main())


def test_notices_from_outside_and_the_first_reason_counts() -> None:
    """tell() adds a notice that is not fatal; end() twice keeps the first, and the peer is told once."""

    async def main() -> None:
        pipe, engine = Pipe(), Engine()
        pipe.incoming.put_nowait(HELLO)
        live = stream(pipe, engine)
        serving = asyncio.create_task(served(pipe, live))
        assert "welcome" in await pipe.sent.get()
        live.tell(Draining("soon", retry_after_ms=3))
        assert (await pipe.sent.get())["notice"] == notice(Draining("soon", retry_after_ms=3), fatal=False)
        live.end(Draining("now"))
        live.end(PeerProtocolError("later"))
        assert isinstance(await serving, Draining)
        told = [pipe.sent.get_nowait() for _ in range(pipe.sent.qsize())]
        assert [header["notice"]["fatal"] for header in told if "notice" in header] == [True]

    asyncio.run(main())


def test_a_notice_for_a_stream_that_is_just_ending() -> None:
    """It is dropped before it began, and leaves nothing behind that was never awaited."""

    async def main() -> None:
        pipe, engine = Pipe(), Engine()
        live = stream(pipe, engine)
        serving = asyncio.create_task(served(pipe, live))
        await asyncio.sleep(0)
        live.end(None)
        live.tell(Draining("soon"))
        assert await serving is None
        assert pipe.sent.empty()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()


def test_a_bug_behind_the_edge_is_told_and_contained(caplog: Any) -> None:
    """An unexpected exception ends this stream as HANDLER_FAILED; the log has the traceback, the peer not."""

    class Broken(Engine):
        async def attach(self, hello: Any, principal: Any, origin: Any) -> Any:
            raise ZeroDivisionError("secret detail")

    async def main() -> None:
        pipe = Pipe()
        pipe.incoming.put_nowait(HELLO)
        reason = await served(pipe, stream(pipe, Broken()))
        assert reason is not None
        assert reason.code == "HANDLER_FAILED"
        told = (await pipe.sent.get())["notice"]
        assert told["fatal"]
        assert "secret" not in told["message"]

    asyncio.run(main())
    assert "secret detail" in caplog.text


def test_a_stream_that_is_over_goes_at_once() -> None:
    """Whatever ended it, it is gone with its wire's owner, and not when garbage is collected some day."""

    async def gone(how: str) -> bool:
        pipe, engine = Pipe(), Engine()
        pipe.incoming.put_nowait(HELLO)
        live = stream(pipe, engine)
        serving = asyncio.create_task(served(pipe, live))
        assert "welcome" in await pipe.sent.get()
        if how == "bye":
            pipe.incoming.put_nowait(({"bye": True}, []))
        elif how == "told":
            live.end(Draining("now"))
        else:
            for attachment in list(engine.session("s1").attachments.values()):
                attachment.end(Draining("now"))
        await serving
        left = weakref.ref(live)
        del live, serving
        await asyncio.sleep(0)
        return left() is None

    gc.collect()
    gc.disable()
    try:
        assert {how: asyncio.run(gone(how)) for how in ("bye", "told", "ended")} == dict.fromkeys(
            ("bye", "told", "ended"), True
        )
    finally:
        gc.enable()


class _Header(dict[str, Any]):
    """A header of which can be said whether it is still there."""


class _Watching(Pipe):
    """A wire that remembers, weakly, what passed through it."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[weakref.ref[Any]] = []

    async def read(self) -> Frame | None:
        frame = await super().read()
        if frame is None:
            return None
        header = _Header(frame[0])
        self.passed.append(weakref.ref(header))
        return header, frame[1]

    async def write(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        await super().write(header, envelopes)
        self.passed += [weakref.ref(each) for each in header.values() if isinstance(each, _Header)]


def test_a_stream_that_waits_holds_no_frame() -> None:
    """Neither the last one read nor the last one written is kept by who waits for the next."""

    async def main() -> None:
        pipe, engine = _Watching(), Engine()
        serving = asyncio.create_task(served(pipe, stream(pipe, engine)))
        pipe.incoming.put_nowait(HELLO)
        async with asyncio.timeout(10):
            await pipe.sent.get()
            (session,) = engine.sessions.values()
            session.attachments["c1"].tell(notice=_Header({"code": "X"}))
            await pipe.sent.get()
            pipe.incoming.put_nowait(({"ping": 1}, []))
            assert "pong" in await pipe.sent.get()
        assert [seen() for seen in pipe.passed] == [None] * 3
        pipe.incoming.put_nowait(({"bye": True}, []))
        assert await serving is None

    asyncio.run(main())


class _Jumping:
    """A clock that stands where it is put, as after a pause of the whole process."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at


def test_an_engine_that_was_late_looks_again_before_it_blames_a_client() -> None:
    """After a pause of the process a hello that lay unread is still welcome; who is silent is told to come again."""

    async def main() -> None:
        clock = _Jumping()
        pipe, engine = Pipe(), Engine()
        slow = SessionStream(pipe, engine, Principal("ada"), clock=clock, policy=StreamPolicy())
        serving = asyncio.create_task(served(pipe, slow))
        clock.at += 60.0
        slow._look()  # as its timer does
        async with asyncio.timeout(10):
            pipe.incoming.put_nowait(HELLO)
            assert "welcome" in await pipe.sent.get()
        pipe.incoming.put_nowait(({"bye": True}, []))
        assert await serving is None

        nothing = Pipe()
        reason = await served(nothing, stream(nothing, engine, hello_s=0.01))
        assert (type(reason), reason and reason.reason, reason and reason.retryable) == (
            LinkLost,
            "HELLO_TIMEOUT",
            True,
        )

    asyncio.run(main())
