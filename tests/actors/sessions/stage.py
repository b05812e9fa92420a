"""What the tests of sessions share: kinds, a store that can fail, a dispatcher and a speaker that write down.

Law of this file: the store, the routing and the packing are the real ones; only the ends are doubles.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.dispatch.books import OnDone
from laneway.actors.ports import Claim, Entry, Outcome, Principal
from laneway.actors.sessions.session import SessionPolicy
from laneway.engine.app.packing import LogPacking
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.envelope import DEADLINE, Envelope, envelope, envelope_id
from laneway.routing.errors import LaneFull, LanewayError, StoreError
from laneway.routing.handshake import Hello
from laneway.routing.lanes import Lane
from laneway.routing.replay import Cursor
from laneway.routing.verdicts import Verdict
from tests.simulation.loop import VirtualClock

__all__ = [
    "ALICE",
    "BOB",
    "Caller",
    "Desk",
    "Disk",
    "a_directory",
    "a_hello",
    "an_event",
    "kind_table",
    "text",
]

ALICE = Principal("alice", "t")
BOB = Principal("bob", "t")


def kind_table() -> KindTable:
    """The built-in kinds, and one of each treatment for tests."""
    return KindTable(
        (
            Kind("WORK", Lane.NORMAL, direction=IN),
            Kind("URGE", Lane.CRITICAL, direction=IN),
            Kind("BLIP", Lane.LOW, durable=False, droppable=True, direction=IN),
        )
    )


class Disk(MemoryStore):
    """The memory store of one machine: survives the processes of a test, and can be slow or away.

    Attributes:
        down: every call that matters raises StoreError. claim_s, append_s: what these take.
    """

    def __init__(self, *, durable: bool = True) -> None:
        super().__init__(epoch="e1")
        self._survives = durable
        self.down = False
        self.claim_s = 0.0
        self.append_s = 0.0

    @property
    def durable(self) -> bool:
        return self._survives

    async def claim(self, key: str) -> Claim:
        await asyncio.sleep(self.claim_s)
        self._check()
        return await super().claim(key)

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        await asyncio.sleep(self.append_s)
        self._check()
        await super().append(claim, entries)

    def _check(self) -> None:
        if self.down:
            raise StoreError("the disk is away")


class Desk:
    """A DispatchPort that keeps what it is given until the test ends it.

    Attributes:
        refusal: what every admission is answered with, or None. refused: ids that are refused anyway.
        admissions: how many were asked for at once, each time.
    """

    def __init__(self, kinds: KindTable) -> None:
        self.refusal: LanewayError | None = None
        self.refused: set[str] = set()
        self.queued: dict[str, tuple[Envelope, OnDone | None]] = {}
        self.released: list[str] = []
        self.forgotten: list[str] = []
        self.cancels: list[tuple[str, str, str]] = []
        self.order: list[str] = []
        self.admissions: list[int] = []
        self._kinds = kinds

    def introduce(self, tenant: str, session: str, producer: str, subject: str) -> None:
        self.introduced = (tenant, session, producer, subject)

    def admit_batch(self, envs: Sequence[Envelope]) -> list[Verdict]:
        self.admissions.append(len(envs))
        return [self._refusal(env) or self._classified(env) for env in envs]

    def _refusal(self, env: Envelope) -> LanewayError | None:
        return LaneFull("no room") if envelope_id(env) in self.refused else self.refusal

    def _classified(self, env: Envelope) -> Envelope:
        producer, counter, kind, tenant, session, run, entity, asked, *_ = env
        lane = self._kinds.lane(kind, asked)
        return (producer, counter, kind, tenant, session, run, entity, lane, *env[DEADLINE:])

    def enqueue_batch(self, envs: Sequence[Envelope], on_done: OnDone | None = None) -> None:
        for env in envs:
            assert envelope_id(env) not in self.queued, f"{envelope_id(env)} is in work already"
            self.queued[envelope_id(env)] = (env, on_done)
            self.order.append(envelope_id(env))

    def release(self, env: Envelope) -> None:
        self.released.append(envelope_id(env))

    def forget(self, tenant: str, session: str) -> bool:
        self.forgotten.append(session)
        return not self.queued

    def cancel(
        self, tenant: str, session: str, run: str = "", event_id: str = "", reason: str = "", *, remember: bool = True
    ) -> int:
        self.cancels.append((session, run, event_id))
        return 0

    def end(self, key: str, status: str = "handled", code: str = "") -> None:
        """Say how an event ended."""
        env, on_done = self.queued.pop(key)
        if on_done is not None:
            on_done([(env, Outcome(status, code=code, message="it ended"))])


class Caller:
    """A Speaker that keeps its answers."""

    def __init__(self, client: str = "c", principal: Principal = ALICE) -> None:
        self.client = client
        self.principal = principal
        self.origin: dict[str, Any] = {}
        self.told: list[dict[str, Any]] = []

    def tell(self, **fields: Any) -> None:
        self.told.append(fields)

    @property
    def ok(self) -> list[tuple[int, str]]:
        """(counter, grade) in the order of the answers."""
        return [
            (counter, grade)
            for told in self.told
            for first, count, grade in told.get("ok", ())
            for counter in range(first, first + count)
        ]

    @property
    def refused(self) -> list[tuple[int, str, str]]:
        """(counter, code, reason) in the order of the answers."""
        rows = [row for told in self.told for row in told.get("refused", ())]
        return [(counter, code, reason) for counters, code, reason, *_ in rows for counter in counters]


def an_event(counter: int, kind: str = "WORK", producer: str = "c", **fields: Any) -> Envelope:
    """An event as a client sends it."""
    fields.setdefault("lane", Lane.CRITICAL)
    return envelope(kind, producer=producer, counter=counter, tenant="t", session="s", **fields)


def text(counter: int, body: str = "x", run: str = "r", **fields: Any) -> Envelope:
    """A text delta as a run emits it."""
    fields.setdefault("lane", Lane.NORMAL)
    fields.setdefault("entity", "m")
    return an_event(counter, "TEXT_MESSAGE_CONTENT", "engine/run", run=run, body=body.encode(), **fields)


def a_hello(client: str = "c", session: str = "s", cursor: Cursor | None = None, **fields: Any) -> Hello:
    """What a client asks for."""
    return Hello((1,), client, session, cursor, **fields)


@asynccontextmanager
async def a_directory(
    disk: Disk, desk: Desk | None = None, **fields: Any
) -> AsyncIterator[tuple[SessionDirectory, Desk]]:
    """One process: a directory over the disk; `fields` that are none of its own are the policy's."""
    kinds = kind_table()
    desk = desk or Desk(kinds)
    own = {name: fields.pop(name) for name in ("max_sessions", "observe") if name in fields}
    clock = VirtualClock(asyncio.get_running_loop())
    ids = itertools.count(1)
    directory = SessionDirectory(
        disk,
        clock=clock,
        kinds=kinds,
        packer=LogPacking(kinds),
        policy=SessionPolicy(**fields),
        link_ids=lambda: f"link{next(ids)}",
        wall=clock.now,
        **own,
    )
    directory.bind(desk)
    try:
        yield directory, desk
    finally:
        await directory.close()
