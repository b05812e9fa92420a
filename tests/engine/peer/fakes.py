"""A wire in memory, and connections over it, for tests that set the time themselves."""

from __future__ import annotations

import asyncio

from laneway.actors.hosts.peers import Message
from laneway.engine.peer.connection import Connection
from laneway.engine.peer.frames import MessagePacker, decode_frame, join
from laneway.engine.peer.handshake import Hello
from laneway.engine.peer.policy import PeerPolicy
from tests.engine.peer.stage import Clock, Recorder

__all__ = ["FakeWire", "Rig"]


class FakeWire:
    """What the other side would send is put in by `say`; what it would get lies in `written`."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.written: list[Message] = []
        self.frames = 0
        self.ended = False
        self.breaks: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    def say(self, *messages: Message) -> None:
        pack = MessagePacker(10_000_000).pack
        self.inbox.put_nowait(join([pack(message) for message in messages]))

    async def read(self) -> bytes | None:
        frame = await self.inbox.get()
        if isinstance(frame, Exception):
            raise frame
        return frame

    async def write(self, frame: bytes) -> None:
        await self.open.wait()
        if self.ended:
            raise ConnectionError("ended")
        if self.breaks is not None:
            raise self.breaks
        self.frames += 1
        self.written += decode_frame(frame, 10_000_000)

    def end(self) -> None:
        self.ended = True
        self.open.set()
        self.inbox.put_nowait(None)


class Rig:
    """A connection over fake wires; use as a context manager."""

    def __init__(self, policy: PeerPolicy | None = None, name: str = "other") -> None:
        self.clock = Clock(1_000.0)
        self.recorder = Recorder()
        self.urgent, self.data = FakeWire(), FakeWire()
        self.connection = Connection(
            Hello(name, "1", "c1"),
            self.urgent,
            self.data,
            self.recorder,
            clock=self.clock,
            policy=policy or PeerPolicy(linger_s=0.01),
            dialled=True,
        )

    async def __aenter__(self) -> Rig:
        self._life = asyncio.create_task(self.connection.live())
        await self.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.connection.broke("the test is over")
        await self._life

    async def settle(self) -> None:
        """Let everything happen that can."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def at(self, now: float, *, forgiving: bool = False) -> None:
        """Set the time, beat, and let it happen."""
        self.clock.at = 1_000.0 + now
        self.connection.beat(self.clock.at, forgiving=forgiving)
        await self.settle()
