"""A link to a session that is at home with another front, seen from its edge."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.fronts.flow import Flow
from laneway.actors.fronts.parcels import Parcels
from laneway.actors.fronts.relayed import RelayedLink
from laneway.actors.hosts.peers import LEAVE, LINK_IN, NEXT
from laneway.actors.hosts.switchboard import Switchboard
from laneway.engine.app.packing import LogPacking
from laneway.routing.errors import HostLost, LinkClosed, Superseded
from laneway.routing.failures import error_fields
from laneway.routing.link import LinkFrame
from tests.actors.pairs import End, connect
from tests.actors.sessions.stage import an_event, kind_table
from tests.simulation.loop import VirtualClock, run

FRAMES = [LinkFrame({"n": n}, []) for n in range(4)]


class _Deaf:
    """The other side: takes everything and says nothing."""

    def handlers(self):  # type: ignore[no-untyped-def]
        return {verb: lambda peer, message: None for verb in (LEAVE, LINK_IN, NEXT)}

    def connected(self, peer: object) -> None: ...

    def lost(self, peer: object, error: object) -> None: ...


def _link(window_bytes: int = 10_000) -> tuple[RelayedLink, End, Flow]:
    left, right = Switchboard(), Switchboard()
    flow = Flow(window_bytes)
    left.add(flow)
    right.add(_Deaf())
    mine, _ = connect(left, right)
    clock = VirtualClock(asyncio.get_running_loop())
    return RelayedLink(mine, 7, flow, Parcels(LogPacking(kind_table()), clock)), mine, flow


def test_another_batch_is_asked_for_once_one_is_written() -> None:
    """Who asks for frames has written those before; each comes once and in order."""

    async def main() -> None:
        link, peer, _ = _link()
        link.take(FRAMES[:2])
        link.take(FRAMES[2:])
        assert await link.frames() == FRAMES[:2]
        assert peer.sent == []
        assert await link.frames() == FRAMES[2:]
        assert peer.sent == [(NEXT, 7)]
        waiting = asyncio.create_task(link.frames())
        await asyncio.sleep(0.1)
        assert peer.sent == [(NEXT, 7)] * 2
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        link.take(FRAMES[:1])
        assert await link.frames() == FRAMES[:1]
        assert peer.sent == [(NEXT, 7)] * 2

    run(main())


def test_what_ended_it_comes_after_the_last_frame() -> None:
    """The first reason counts, and asking again gives it again."""

    async def main() -> None:
        link, peer, _ = _link()
        waiting = asyncio.create_task(link.frames())
        await asyncio.sleep(0.1)
        link.take(FRAMES[:1])
        link.end(Superseded("newer"))
        link.end(HostLost("lost"))
        assert not link.live
        assert await waiting == FRAMES[:1]
        for _ in range(2):
            with pytest.raises(Superseded):
                await link.frames()
        assert peer.sent == []  # nothing more is asked for
        with pytest.raises(Superseded):
            await link.opened

    run(main())


def test_leaving_is_told_once() -> None:
    """With an error the home still sends what is due; without one it is over at once."""

    async def main() -> None:
        link, peer, _ = _link()
        error = Superseded("newer")
        await link.close(error)
        await link.close(error)
        assert peer.sent == [(LEAVE, 7, error_fields(error))]
        assert not link.live
        link.take(FRAMES[:1])
        assert await link.frames() == FRAMES[:1]
        await link.close()
        with pytest.raises(LinkClosed):
            await link.frames()
        assert peer.sent == [(LEAVE, 7, error_fields(error))]
        other, peer, _ = _link()
        await other.close()
        assert peer.sent == [(LEAVE, 7, None)]

    run(main())


def test_the_client_s_frames_wait_for_room() -> None:
    """One after the other, without its hello; a link that is over takes nothing, a lost front is told."""

    async def main() -> None:
        link, peer, flow = _link(1000)
        await link.receive({}, ())
        assert peer.sent == []
        await link.receive({"hello": {"v": [1]}, "ping": 4}, [an_event(1)])
        verb, number, header, items = peer.sent[0]
        assert (verb, number, header, len(items)) == (LINK_IN, 7, {"ping": 4}, 1)
        large = asyncio.create_task(link.receive({}, [an_event(2, body=b"x" * 900)]))
        await asyncio.sleep(0.1)
        assert len(peer.sent) == 1
        assert flow.waiting() == 1
        peer.cut()
        with pytest.raises(HostLost):
            await large
        link.end(HostLost("lost"))
        await link.receive({"ping": 5}, ())
        assert len(peer.sent) == 1

    run(main())
