"""The home's side of relayed links; what it does together with an asking front is in test_fronts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from laneway.actors.fronts.flow import Flow
from laneway.actors.fronts.parcels import Parcels, hello_fields, principal_row, size_bytes
from laneway.actors.fronts.reception import Reception
from laneway.actors.hosts.peers import (
    ATTACH,
    ATTACHED,
    ENDED,
    INGEST,
    LEAVE,
    LINK_IN,
    LINK_OUT,
    NEXT,
    TOLD,
    Message,
    Peer,
)
from laneway.actors.hosts.switchboard import Switchboard
from laneway.engine.app.packing import LogPacking
from laneway.routing.errors import Draining, SlowConsumer
from laneway.routing.failures import error_fields
from tests.actors.pairs import connect
from tests.actors.sessions.stage import ALICE, Disk, a_directory, a_hello, an_event, kind_table, text
from tests.simulation.loop import VirtualClock, run


class _Front:
    """The other side: speaks by hand, and writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.peer: Any = None
        self.flow = Flow()

    def handlers(self) -> dict[int, Any]:
        return dict.fromkeys((ATTACHED, LINK_OUT, ENDED, TOLD), lambda peer, message: self.heard.append(message))

    def connected(self, peer: Peer) -> None:
        self.peer = peer

    def lost(self, peer: Peer, error: object) -> None: ...

    def attach(self, number: int, client: str = "c", session: str = "s", turns: int = 2) -> None:
        self.peer.send((ATTACH, number, hello_fields(a_hello(client, session)), principal_row(ALICE), {}))
        for _ in range(turns):
            self.peer.send((NEXT, number))

    def ended(self) -> list[tuple[int, str]]:
        return [(message[1], message[2][0]) for message in self.heard if message[0] == ENDED]

    def out(self) -> list[Any]:
        return [row for message in self.heard if message[0] == LINK_OUT for row in message[2]]


@asynccontextmanager
async def _a_home(**fields: Any) -> AsyncIterator[tuple[Any, _Front, Reception, Parcels]]:
    async with a_directory(fields.pop("disk", None) or Disk(), **fields) as (directory, _):
        left, right = Switchboard(), Switchboard()
        flow, front = Flow(), _Front()
        parcels = Parcels(LogPacking(kind_table()), VirtualClock(asyncio.get_running_loop()))
        reception = Reception(directory, flow, parcels)
        for part in (flow, reception):
            left.add(part)
        right.add(front.flow)
        right.add(front)
        connect(left, right)
        try:
            yield directory, front, reception, parcels
        finally:
            await directory.close()
            await reception.close()


def test_frames_are_sent_as_they_are_asked_for() -> None:
    """The welcome first; without a NEXT nothing; each NEXT is one batch."""

    async def main() -> None:
        async with _a_home() as (directory, front, reception, _):
            front.attach(1, turns=1)
            await asyncio.sleep(0.1)
            assert [message[0] for message in front.heard] == [ATTACHED, LINK_OUT]
            assert front.out()[0][0]["welcome"]["resume"] == "new"
            await directory.emit(text(1, "hello"))
            await asyncio.sleep(0.5)
            assert len(front.out()) == 1
            front.peer.send((NEXT, 1))
            await asyncio.sleep(0.1)
            assert len(front.out()) == 2
            assert len(reception) == 1

    run(main())


def test_leaving_ends_a_link_at_any_time() -> None:
    """While it opens, while it waits, and with an error after what is due; each end is told once."""

    async def main() -> None:
        disk = Disk()
        async with _a_home(disk=disk) as (directory, front, reception, _):
            front.attach(1)
            front.peer.send((LEAVE, 1, None))  # in the same breath
            await asyncio.sleep(0.1)
            disk.claim_s = 1.0
            front.attach(2, session="slow")
            await asyncio.sleep(0.5)
            front.peer.send((LEAVE, 2, error_fields(SlowConsumer("x"))))
            await asyncio.sleep(0.1)
            assert front.ended() == [(1, "LINK_CLOSED"), (2, "LINK_CLOSED")]
            front.attach(3)
            await asyncio.sleep(0.1)
            await directory.emit(text(1, "due"))
            front.peer.send((LEAVE, 3, error_fields(SlowConsumer("too slow"))))
            front.peer.send((NEXT, 3))
            await asyncio.sleep(0.1)
            assert front.out()[-1][0]["notice"]["code"] == "SLOW_CONSUMER"
            assert front.ended()[-1] == (3, "SLOW_CONSUMER")
            front.attach(4, turns=1)  # and reads no more
            await asyncio.sleep(0.1)
            front.peer.send((LEAVE, 4, error_fields(SlowConsumer("too slow"))))
            await asyncio.sleep(3)
            assert front.ended()[-1] == (4, "LINK_CLOSED")
            front.peer.send((LEAVE, 4, None))
            await asyncio.sleep(0.1)
            assert len(front.ended()) == 4
            assert len(reception) == 0
            assert directory.statistics().links == 0

    run(main())


def test_the_loss_of_its_front_is_a_disconnect() -> None:
    """Its links leave, also those that are being opened; nothing else of the session changes."""

    async def main() -> None:
        disk = Disk()
        async with _a_home(disk=disk) as (directory, front, reception, _):
            front.attach(1)
            await asyncio.sleep(0.1)
            disk.claim_s = 1.0
            front.attach(2, session="slow")
            await asyncio.sleep(0.1)
            front.peer.cut()
            await asyncio.sleep(2)
            assert len(reception) == 0
            assert directory.statistics().links == 0
            assert directory.find("t", "s") is not None

    run(main())


def test_a_shutdown_ends_links_with_draining() -> None:
    """Also one that does not ask for its last frames."""

    async def main() -> None:
        async with _a_home() as (directory, front, reception, _):
            front.attach(1, "reads", turns=9)
            front.attach(2, "does-not", turns=1)
            await asyncio.sleep(0.1)
            await directory.close()
            await reception.close()
            await asyncio.sleep(0.1)
            assert sorted(front.ended()) == [(1, Draining.code), (2, Draining.code)]
            await reception.close()

    run(main())


def test_frames_for_a_link_that_is_over_are_dropped() -> None:
    """A client's frames may cross its end; an ack of nonsense ends that link only."""

    async def main() -> None:
        async with _a_home() as (_, front, reception, parcels):
            front.peer.send((LINK_IN, 9, {"ping": 1}, []))
            front.peer.send((NEXT, 9))
            front.attach(1)
            front.attach(2, "d")
            await asyncio.sleep(0.1)
            front.peer.send((LINK_IN, 1, {"ack": ["e1", 0, 99]}, []))
            front.peer.send((LINK_IN, 1, {"ping": 1}, []))
            await asyncio.sleep(0.1)
            assert front.ended() == [(1, "MALFORMED")]
            assert len(reception) == 1
            front.peer.send((INGEST, 5, "s", "d", principal_row(ALICE), {}, parcels.pack([an_event(1)])))
            await asyncio.sleep(0.1)
            assert (TOLD, 5, {"ok": [[1, 1, "durable"]]}) in front.heard

    run(main())


def test_what_waits_for_a_session_to_open_is_bounded() -> None:
    """A MiB; beyond it whole messages are refused, to be sent again, and what was taken is taken in order."""

    async def main() -> None:
        disk = Disk()
        disk.claim_s = 1.0
        async with _a_home(disk=disk) as (_, front, _, parcels):
            for number in range(1, 81):
                items = parcels.pack([an_event(number, body=b"x" * 15_000)])
                await front.flow.room(front.peer, size_bytes(items))
                front.peer.send((INGEST, number, "s", "c", principal_row(ALICE), {}, items))
            await asyncio.sleep(5)
            told = [(message[1], message[2]) for message in front.heard if message[0] == TOLD]
            refused = {number: fields["error"][0] for number, fields in told if "error" in fields}
            taken = [number for number, fields in told if "ok" in fields]
            assert taken == list(range(1, len(taken) + 1))
            assert 1_000_000 < len(taken) * 15_000 < 1_048_576
            assert refused == dict.fromkeys(range(len(taken) + 1, 81), "OVERLOADED")

    run(main())
