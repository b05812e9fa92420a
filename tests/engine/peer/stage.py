"""Hosts for tests: receivers that remember what they are told, planes on loopback, connections between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from laneway.actors.hosts.peers import Message, Peer
from laneway.engine.peer.plane import Plane
from laneway.engine.peer.policy import PeerPolicy
from laneway.routing.errors import LanewayError
from laneway.routing.membership import FRONT, POOL, Member

__all__ = ["SECRET", "VERSION", "Clock", "Recorder", "Side", "both_up", "eventually", "host", "joined", "member"]

SECRET = "a secret of sixteen or more"
VERSION = "1.2.3"
PATIENCE_S = 60.0
"""A test that waits longer has failed; nothing is asserted about how long it took."""


class Clock:
    """Real time, or whatever a test sets."""

    def __init__(self, at: float | None = None) -> None:
        self.at = at

    def now(self) -> float:
        return time.monotonic() if self.at is None else self.at


class Recorder:
    """A Receiver that remembers; `until` waits for what it is told."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.messages: list[Message] = []
        self.losses: list[tuple[Peer, LanewayError]] = []
        self.told: list[tuple[str, str]] = []
        self.on_message: Callable[[Peer, Message], None] = lambda peer, message: None
        self.on_connected: Callable[[Peer], None] = lambda peer: None
        self._news = asyncio.Event()

    def connected(self, peer: Peer) -> None:
        self.peers.append(peer)
        self.told.append(("connected", peer.incarnation))
        self._news.set()
        self.on_connected(peer)

    def received(self, peer: Peer, message: Message) -> None:
        assert peer in self.peers, "a message before its connection"
        self.messages.append(message)
        self._news.set()
        self.on_message(peer, message)

    def lost(self, peer: Peer, error: LanewayError) -> None:
        self.losses.append((peer, error))
        self.told.append(("lost", peer.incarnation))
        self._news.set()

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                self._news.clear()
                await self._news.wait()


async def eventually(true: Callable[[], Any]) -> None:
    """Look again and again until something is true that tells nobody."""
    for _ in range(int(PATIENCE_S / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not become true")


@dataclass(slots=True)
class Side:
    """One end of a connection."""

    recorder: Recorder
    peer: Peer

    async def lost(self) -> LanewayError:
        """Wait for the loss; return its error."""
        await self.recorder.until(lambda: self.recorder.losses)
        return self.recorder.losses[-1][1]


@asynccontextmanager
async def host(
    name: str,
    *,
    incarnation: str = "1",
    role: str = FRONT,
    recorder: Recorder | None = None,
    policy: PeerPolicy | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Plane, Recorder, str]]:
    """A started plane, its receiver and its address."""
    recorder = recorder or Recorder()
    more = {"secret": SECRET, "version": VERSION, "clock": Clock()} | more
    plane = Plane(name, incarnation, recorder, role=role, policy=policy, **more)
    address = await plane.start("127.0.0.1")
    try:
        yield plane, recorder, address
    finally:
        await plane.close()


def member(name: str, address: str, *, role: str = POOL, incarnation: str = "1") -> Member:
    return Member(name, incarnation, role, address)


@asynccontextmanager
async def joined(policy: PeerPolicy | None = None, **more: Any) -> AsyncIterator[tuple[Side, Side]]:
    """A front `left` that has dialled a pool host `right`: both ends."""
    async with AsyncExitStack() as stack:
        left, mine, _ = await stack.enter_async_context(host("left", policy=policy, **more))
        _, theirs, address = await stack.enter_async_context(host("right", role=POOL, policy=policy, **more))
        left.follow([member("right", address)])
        yield await both_up(mine, theirs)


async def both_up(mine: Recorder, theirs: Recorder) -> tuple[Side, Side]:
    """Wait until both are connected; return both ends."""
    await mine.until(lambda: mine.peers)
    await theirs.until(lambda: theirs.peers)
    return Side(mine, mine.peers[-1]), Side(theirs, theirs.peers[-1])
