"""A small stage for one session: the real directory and dispatcher, and viewers that read by hand.

Unlike the world it has no weather and nothing random: what happens is what the test does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.pools.context import Surroundings
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Principal, Store
from laneway.actors.sessions.attachment import Attachment
from laneway.actors.sessions.session import SessionHome, SessionPolicy
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.classify import KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import LanewayError
from laneway.routing.handshake import Hello, LinkPolicy
from laneway.routing.inbox import Inbox, Received
from laneway.routing.link import LinkFrame
from laneway.routing.replay import Cursor
from tests.simulation.loop import VirtualClock
from tests.simulation.process import Packing, kind_table

__all__ = ["Stage", "Viewer"]

_QUIET_S: Final = 0.3


class Viewer:
    """One client, read by hand."""

    def __init__(self, attachment: Attachment, inbox: Inbox) -> None:
        self.attachment = attachment
        self.inbox = inbox
        self.items: list[Received] = []
        self.headers: list[dict[str, Any]] = []
        self.frames: list[LinkFrame] = []

    @property
    def welcome(self) -> dict[str, Any]:
        """The answer to the hello."""
        return next(header["welcome"] for header in self.headers if "welcome" in header)

    @property
    def text(self) -> str:
        """All text received, joined."""
        return b"".join(i.envelope[11] for i in self.items if i.envelope[2] == "TEXT_MESSAGE_CONTENT").decode()

    @property
    def kinds(self) -> list[str]:
        """Kinds received, in order."""
        return [item.envelope[2] for item in self.items]

    def told(self, name: str) -> list[Any]:
        """All values of a header field."""
        return [header[name] for header in self.headers if name in header]

    async def read(self, frames: int = 1_000_000) -> Viewer:
        """Read until nothing more comes (or so many frames); neither acks nor grants."""
        now = self.attachment._clock.now
        while frames > 0:
            try:
                async with asyncio.timeout(_QUIET_S):
                    batch = await self.attachment.frames()
            except (TimeoutError, LanewayError):
                break
            for frame in batch:
                self.frames.append(frame)
                self.headers.append(frame.header)
                self.items += self.inbox.receive(frame.header, frame.envelopes, now())
                frames -= 1
        return self

    async def ack(self, **more: object) -> None:
        """Ack what was received."""
        await self.attachment.receive({"ack": list(self.inbox.cursor[:3]), **more}, [])

    async def send(self, kind: str, counter: int, **fields: Any) -> None:
        """Send one event."""
        env = envelope(kind, producer="?", counter=counter, tenant="?", session="?", lane=0, **fields)
        await self.attachment.receive({}, [env])


class Stage:
    """One engine around one store; `close` shuts it down.

    Args:
        store: survives the stage, so that another one can follow on it.
        pools: what handles events.
        observe: as for a directory.

    Attributes:
        shedding: its level of overload.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        pools: Sequence[PoolSpec] = (),
        kinds: KindTable | None = None,
        observe: Callable[[str, Sequence[Envelope]], None] = lambda direction, envs: None,
        **policy: Any,
    ) -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        self.store = store or MemoryStore(now=clock.now)
        self.kinds = kinds or kind_table()
        self._names = 0
        self._numbers = 0
        policy.setdefault("link", LinkPolicy(heartbeat_s=100.0))
        core = DispatchCore(self.kinds, DispatchPolicy())
        self.shedding = core.admission.shedding
        self.directory = SessionDirectory(
            self.store, clock=clock, kinds=self.kinds, packer=Packing(self.kinds), policy=SessionPolicy(**policy),
            link_ids=self._name, wall=clock.now, observe=observe, shedding=self.shedding,
        )  # fmt: skip
        around = Surroundings(outlet=self.directory, clock=clock, kinds=self.kinds, ids=self._name)
        self.dispatcher = Dispatcher(core, around, journal=self.directory.journal)
        self.directory.bind(self.dispatcher)
        for pool in pools:
            self.dispatcher.add_pool(pool)

    def _name(self) -> str:
        self._names += 1
        return f"id-{self._names}"

    async def start(self) -> Stage:
        """Serve."""
        await self.dispatcher.start()
        await self.directory.recover()
        return self

    async def close(self) -> None:
        """Shut down."""
        await self.dispatcher.close()
        await self.directory.close()

    async def home(self) -> SessionHome:
        """The session's home."""
        return await self.directory.open("t", "s")

    async def attach(self, client: str = "c", *, inbox: Inbox | None = None, skip: bool = True, **hello: Any) -> Viewer:
        """Connect; with an inbox, resume where it stands (`skip`: to the byte)."""
        inbox = inbox or Inbox()
        cursor: Cursor | None = inbox.cursor if inbox.cursor.epoch else None
        if cursor is not None and not skip:
            cursor = cursor._replace(skip=0)
        offer = Hello((1,), client, "s", cursor=cursor, **hello)
        return Viewer(await self.directory.attach(offer, Principal("someone", "t")), inbox)

    def event(self, kind: str, body: bytes | str | dict[str, Any] = b"", run: str = "r", entity: str = "m") -> Envelope:
        """Make an outbound event."""
        self._numbers += 1
        if isinstance(body, dict):
            body = msgpack.packb(body)
        return envelope(
            kind,
            producer=f"engine/{run}",
            counter=self._numbers,
            tenant="t",
            session="s",
            lane=self.kinds.lane(kind),
            run=run,
            entity=entity if kind.startswith(("TEXT", "TOOL")) else "",
            body=body.encode() if isinstance(body, str) else body,
        )

    async def emit(
        self, kind: str, body: bytes | str | dict[str, Any] = b"", run: str = "r", entity: str = "m"
    ) -> None:
        """Emit one event as a handler would; waits for credit."""
        await self.directory.emit(self.event(kind, body, run, entity))

    async def settle(self, condition: Callable[[], bool] = lambda: True) -> None:
        """Let everything that is due happen."""
        await asyncio.sleep(_QUIET_S)
        assert condition()
