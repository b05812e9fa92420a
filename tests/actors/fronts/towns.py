"""Several whole fronts in one loop: directory, dispatcher, homes and everything between them, joined in memory.

Law of this file: nothing happens by itself. The test says who is a member, who is connected and who is lost.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.fronts.flow import Flow
from laneway.actors.pools.context import Surroundings
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Principal, Store
from laneway.actors.sessions.session import SessionPolicy
from laneway.actors.sync.bounds import SyncPolicy
from laneway.actors.sync.documents import Documents
from laneway.engine.app.neighbours import Neighbours
from laneway.engine.app.packing import LogPacking
from laneway.engine.documents.yjs import YjsEngine
from laneway.routing.classify import KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy
from laneway.routing.envelope import envelope
from laneway.routing.errors import LanewayError
from laneway.routing.handshake import Hello, LinkPolicy
from laneway.routing.inbox import Inbox, Received
from laneway.routing.membership import FRONT, POOL, Member, View
from tests.actors.pairs import End, connect
from tests.actors.sessions.stage import kind_table
from tests.simulation.loop import VirtualClock

__all__ = ["ALICE", "Reader", "Town", "Villager"]

ALICE = Principal("alice", "t")


class _Shared:
    """A store that several fronts see."""

    shared = True

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Villager:
    """One front.

    Args:
        store: everybody's, if `shared`.
        pools: what handles events here.
        policy: fields of SessionPolicy.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        shared: bool = True,
        incarnation: str = "1",
        pools: Sequence[PoolSpec] = (),
        kinds: KindTable | None = None,
        window_bytes: int | None = None,
        sync_policy: SyncPolicy | None = None,
        **policy: Any,
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self.store = store
        store_seen = _Shared(store) if shared else store
        self.neighbours = Neighbours(name, store_seen)
        self.board, self.questions = self.neighbours.board, self.neighbours.questions
        clock = VirtualClock(asyncio.get_running_loop())
        self.kinds = kinds or kind_table()
        packer = LogPacking(self.kinds)
        ids = itertools.count(1)
        policy.setdefault("link", LinkPolicy(heartbeat_s=100.0))
        self.directory = SessionDirectory(
            store, clock=clock, kinds=self.kinds, packer=packer, policy=SessionPolicy(**policy),
            link_ids=lambda: f"{name}{next(ids)}", wall=clock.now, homes=self.neighbours.homes,
        )  # fmt: skip
        around = Surroundings(
            outlet=self.directory, clock=clock, kinds=self.kinds, ids=lambda: f"{name}{next(ids)}",
            principal=self.directory.principal_of,
        )  # fmt: skip
        flow = None if window_bytes is None else Flow(window_bytes)
        self.neighbours.bind(self.directory, clock, self.kinds, flow)
        if incarnation:
            self.neighbours.begin(incarnation)
        self.fronts, self.homes = self.neighbours.fronts, self.neighbours.homes
        journal = self.directory.journal
        self.dispatcher = Dispatcher(DispatchCore(self.kinds, DispatchPolicy()), around, journal=journal)
        self.directory.bind(self.dispatcher)
        for pool in pools:
            self.dispatcher.add_pool(pool)

        def make(elsewhere: Callable[[str, str], None]) -> Documents:
            return Documents(
                store, YjsEngine(), outlet=self.fronts, clock=clock, kinds=self.kinds, policy=sync_policy,
                homes=self.homes, elsewhere=elsewhere,
            )  # fmt: skip

        self.documents = self.neighbours.share(make)
        state = ("DOC_SYNC", "DOC_PATCH", "PRESENCE")
        self.dispatcher.add_pool(
            PoolSpec("state", state, self.documents.handle_all, cells=2, keyed="entity", batch=True)
        )

    @property
    def member(self) -> Member:
        """As the membership has it."""
        return Member(self.name, self.incarnation, FRONT, f"{self.name}:1")

    async def attach(self, client: str = "c", session: str = "s", inbox: Inbox | None = None, **hello: Any) -> Reader:
        """Connect a client here; with an inbox it resumes."""
        cursor = inbox.cursor if inbox is not None and inbox.cursor.epoch else None
        offer = Hello((1,), client, session, cursor, **hello)
        return Reader(self, await self.fronts.attach(offer, ALICE), client, session, inbox or Inbox())

    async def die(self) -> None:
        """kill -9: nothing is written or answered any more (its connections are the town's)."""
        self.neighbours.drop()
        await self.fronts.close()
        await self.dispatcher.close()
        await self.documents.close()
        await self.neighbours.close()

    async def close(self) -> None:
        """Shut down in order."""
        self.directory.drain(0)
        await self.dispatcher.drain(0.0)
        await self.documents.close()
        await self.directory.close()
        await self.neighbours.close()


class Reader:
    """One client, read by hand."""

    def __init__(self, front: Villager, link: Any, client: str, session: str, inbox: Inbox) -> None:
        self.front, self.link, self.client, self.session, self.inbox = front, link, client, session, inbox
        self.headers: list[dict[str, Any]] = []
        self.items: list[Received] = []
        self.error: LanewayError | None = None
        self._reading: asyncio.Task[Any] | None = None

    @property
    def welcome(self) -> dict[str, Any]:
        """The answer to the hello."""
        return next(header["welcome"] for header in self.headers if "welcome" in header)

    @property
    def text(self) -> str:
        """All text received."""
        return b"".join(i.envelope[11] for i in self.items if i.envelope[2] == "TEXT_MESSAGE_CONTENT").decode()

    @property
    def kinds(self) -> list[str]:
        """Kinds received, in order."""
        return [item.envelope[2] for item in self.items]

    @property
    def seqs(self) -> list[tuple[int, int, int]]:
        """(stream, first, last) received, in order."""
        return [(item.stream, item.first, item.last) for item in self.items if item.stream >= 0]

    def told(self, name: str) -> list[Any]:
        """What headers said under a name."""
        return [header[name] for header in self.headers if name in header]

    async def read(self, quiet_s: float = 0.3) -> Reader:
        """Take what comes, until nothing has come for a while or the link ends; acks and grants."""
        while self.error is None:
            if self._reading is None:
                self._reading = asyncio.create_task(self.link.frames())
            done, _ = await asyncio.wait([self._reading], timeout=quiet_s)
            if not done:
                return self
            reading, self._reading = self._reading, None
            try:
                frames = reading.result()
            except LanewayError as error:
                self.error = error
                return self
            now = asyncio.get_running_loop().time()
            for header, envelopes in frames:
                self.headers.append(header)
                self.items += self.inbox.receive(header, envelopes, now)
            due = self.inbox.ack_due(now + 1)
            if due is not None:
                await self.link.receive(due, ())
        return self

    async def send(self, kind: str, counter: int, **fields: Any) -> None:
        """Send one event by the link."""
        fields.setdefault("lane", 2)
        env = envelope(kind, producer=self.client, counter=counter, tenant="t", session=self.session, **fields)
        await self.link.receive({}, [env])

    async def leave(self) -> None:
        """Close the link."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        await self.link.close()


class Town:
    """The membership and the connections of some fronts."""

    def __init__(self) -> None:
        self.members: dict[str, Villager] = {}
        self.number = 0
        self.ends: dict[tuple[str, str], End] = {}

    def view(self, *, settled: bool = True) -> View:
        """Return the present members; a pool host is always among them."""
        rows = [villager.member for villager in self.members.values()]
        rows.append(Member("a-pool", "1", POOL, "a-pool:1"))
        return View(self.number, tuple(sorted(rows)), settled)

    def join(self, *villagers: Villager, tell: bool = True) -> None:
        """Make them members, connect them with those there, and tell everybody."""
        for villager in villagers:
            for other in self.members.values():
                self.link(other, villager)
            self.members[villager.name] = villager
            self.number += 1
        if tell:
            self.tell()

    async def start(self) -> Town:
        """Start every dispatcher."""
        for villager in self.members.values():
            await villager.dispatcher.start()
        return self

    def link(self, left: Villager, right: Villager) -> None:
        """Connect two."""
        lives = {right.name: right.incarnation, left.name: left.incarnation}
        self.ends[left.name, right.name], self.ends[right.name, left.name] = connect(
            left.board, right.board, left.name, right.name, lives=lives
        )

    def between(self, *names: str) -> tuple[End, End]:
        """Return the two ends of the connection of two fronts."""
        return self.ends[names[0], names[1]], self.ends[names[1], names[0]]

    def cut_off(self, name: str) -> None:
        """Break all connections of one."""
        for pair, end in self.ends.items():
            if name in pair:
                end.cut()

    def lose(self, name: str, *, tell: bool = True) -> Villager:
        """Its connections break, and it is no member any more."""
        gone = self.members.pop(name)
        self.number += 1
        self.cut_off(name)
        if tell:
            self.tell()
        return gone

    async def kill(self, name: str) -> Villager:
        """kill -9 of one: the others learn it from the membership."""
        self.cut_off(name)
        await self.members[name].die()
        return self.lose(name)

    def tell(self) -> None:
        """Tell every member the present view."""
        for villager in self.members.values():
            villager.neighbours.saw(self.view())

    def homes_of(self, session: str, tenant: str = "t") -> list[str]:
        """Return the names of the fronts where a session is awake."""
        return [name for name, each in self.members.items() if each.directory.find(tenant, session) is not None]

    async def close(self, *others: Villager) -> None:
        """End everything; `others` are no members any more."""
        for villager in (*others, *self.members.values()):
            await villager.close()
