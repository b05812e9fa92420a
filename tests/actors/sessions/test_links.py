"""The links of a session: one per client, whole resumes, the best reader's grant."""

from __future__ import annotations

import asyncio

import msgpack
import pytest

from laneway.actors.ports import Principal
from laneway.routing.errors import AccessError, LaneFull, PeerProtocolError, Superseded
from laneway.routing.handshake import Hello
from laneway.routing.inbox import Inbox
from laneway.routing.replay import Cursor
from tests.actors.sessions.stage import an_event
from tests.simulation.loop import run
from tests.simulation.stage import Stage, Viewer


def test_the_newest_link_of_a_client_wins() -> None:
    """The older one is told SUPERSEDED and ends; the session has one link."""

    async def main() -> None:
        stage = await Stage().start()
        older = await stage.attach("c")
        await older.read()
        newer = await stage.attach("c")
        await older.read()
        assert older.told("notice")[-1]["code"] == Superseded.code
        with pytest.raises(Superseded):
            await older.attachment.frames()
        home = await stage.home()
        assert home.links.get("c") is newer.attachment
        assert len(home.links) == 1
        await stage.close()

    run(main())


def test_a_client_id_belongs_to_who_came_first() -> None:
    """Somebody else cannot supersede a link by guessing its client id."""

    async def main() -> None:
        stage = await Stage().start()
        mine = await stage.attach("c")
        with pytest.raises(AccessError):
            await stage.directory.attach(Hello((1,), "c", "s"), Principal("another", "t"))
        assert mine.attachment.live
        await stage.close()

    run(main())


def test_who_waits_has_it_with_the_next_turn_of_the_loop() -> None:
    """In memory the log takes an event before its reader's turn comes, and the reader was called already."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        await viewer.read()
        waiting = asyncio.create_task(viewer.attachment.frames())
        await asyncio.sleep(1.0)
        home = await stage.home()
        assert home.outbound.emit_now(an_event(1, "CUSTOM"))
        assert home.outbound.rings[1].committed == 0
        await asyncio.sleep(0)
        assert waiting.done(), "the write, then the reader, in one turn"
        assert [env[2] for frame in waiting.result() for env in frame.envelopes] == ["CUSTOM"]
        await stage.close()

    run(main())


def test_links_are_bounded() -> None:
    """Beyond `max_links` a new client is refused; a known one may reconnect."""

    async def main() -> None:
        stage = await Stage(max_links=2).start()
        await stage.attach("a")
        await stage.attach("b")
        with pytest.raises(LaneFull):
            await stage.attach("c")
        await stage.attach("b")
        await stage.close()

    run(main())


def test_where_a_link_starts() -> None:
    """Without a cursor at the head, with one behind it, and never beyond what was sent."""

    async def main() -> None:
        stage = await Stage().start()
        for number in range(5):
            await stage.emit("CUSTOM", {"n": number})
        await stage.settle()
        home = await stage.home()
        fresh = await (await stage.attach("fresh")).read()
        assert (fresh.welcome["resume"], fresh.welcome["cursor"]) == ("new", [home.epoch, 0, 5])
        back = await (await stage.attach("back", inbox=Inbox(Cursor(home.epoch, 0, 2)))).read()
        assert [item.first for item in back.items] == [3, 4, 5]
        with pytest.raises(PeerProtocolError, match="OUT_OF_RANGE"):
            await stage.attach("ahead", inbox=Inbox(Cursor(home.epoch, 1, 0)))
        await stage.close()

    run(main())


def test_the_furthest_grant_of_the_living_counts() -> None:
    """A link that has ended grants nothing; with no link there is no grant at all."""

    async def main() -> None:
        stage = await Stage().start()
        home = await stage.home()
        assert home.links._furthest_grant() is None
        near, far = await stage.attach("near"), await stage.attach("far")
        await far.read()
        await far.ack(grant=500_000)
        assert home.links._furthest_grant() == 500_000
        await far.attachment.close()
        assert home.links._furthest_grant() == 65_536
        await near.attachment.close()
        assert home.links._furthest_grant() is None
        await stage.close()

    run(main())


def test_who_is_refused_ends_nobody_elses_link() -> None:
    """A reconnect with a cursor beyond the log, or an unknown version, leaves the client's older link as it is."""

    async def main() -> None:
        stage = await Stage().start()
        older = await (await stage.attach("c")).read()
        home = await stage.home()
        with pytest.raises(PeerProtocolError, match="OUT_OF_RANGE"):
            home.attach(Hello((1,), "c", "s", Cursor(home.epoch, 0, 9)), Principal("someone", "t"))
        with pytest.raises(PeerProtocolError, match="UNKNOWN_VERSION"):
            home.attach(Hello((7,), "c", "s"), Principal("someone", "t"))
        await stage.emit("CUSTOM", {"n": 1})
        assert (await older.read()).kinds == ["CUSTOM"]
        assert older.attachment.live
        await stage.close()

    run(main())


@pytest.mark.parametrize(
    ("epoch", "data", "reason"),
    [("another", 190, "EPOCH_MISMATCH"), ("", 3, "OUT_OF_WINDOW"), ("another", 9999, "EPOCH_MISMATCH")],
)
def test_a_resume_is_whole_or_a_snapshot(epoch: str, data: int, reason: str) -> None:
    """A cursor of another numbering, or from before what the log holds, gets a snapshot and what comes after it."""

    async def main() -> None:
        stage = await Stage(ring_events=16).start()
        home = await stage.home()
        viewer = await stage.attach("reader")
        await viewer.attachment.receive({"grant": 1_000_000}, ())
        await stage.emit("TEXT_MESSAGE_START", {"messageId": "m", "role": "assistant"})
        for number in range(200):
            await stage.emit("TEXT_MESSAGE_CONTENT", f"{number} is a number. ")
            await asyncio.sleep(0.02)
        home.links._floors[1] = home.outbound.rings[1].first  # as if the log had been trimmed
        late = await (await stage.attach("c", inbox=Inbox(Cursor(epoch or home.epoch, 0, data)))).read()
        assert (late.welcome["resume"], late.welcome["reason"]) == ("failed", reason)
        assert late.kinds == ["MESSAGES_SNAPSHOT"]
        await stage.emit("CUSTOM", {"n": 1})
        assert (await late.read()).kinds == ["MESSAGES_SNAPSHOT", "CUSTOM"]
        await stage.close()

    run(main())


def test_a_snapshot_stays_small() -> None:
    """However long a session has talked, the snapshot of a new link is bounded, and ends with the newest words."""

    async def main() -> None:
        stage = await Stage().start()
        reader = await stage.attach("reader", grants=False)
        reading = asyncio.create_task(_read_on(reader))
        for number in range(12):
            await stage.emit(
                "TEXT_MESSAGE_START", {"messageId": f"m{number}", "role": "assistant"}, entity=f"m{number}"
            )
            await stage.emit("TEXT_MESSAGE_CONTENT", f"{number} " + "x" * 40_000, entity=f"m{number}")
        await stage.settle()
        fresh = await (await stage.attach("fresh")).read()
        (snapshot,) = fresh.items
        assert len(snapshot.envelope[11]) < 300_000
        assert msgpack.unpackb(snapshot.envelope[11])["messages"][-1]["content"].startswith("11 ")
        await stage.close()
        await asyncio.wait([reading])

    run(main())


async def _read_on(viewer: Viewer) -> None:
    while viewer.attachment.live:
        await viewer.read()


def test_the_furthest_ack_is_remembered() -> None:
    """Who leaves has read what it has read: a session without links runs ahead of that, not of its beginning."""

    async def main() -> None:
        stage = await Stage(budget_bytes=1000).start()
        home = await stage.home()
        viewer = await stage.attach()
        for number in range(30):
            await stage.emit("CUSTOM", {"n": number, "body": "x" * 100})
        await viewer.read()
        await viewer.ack()
        position = home.outbound.rings[1].head_position
        assert home.outbound.acked_position == position > 1000
        await viewer.attachment.close()
        async with asyncio.timeout(1):
            await stage.emit("CUSTOM", {"n": 30, "body": "x" * 100})
        await stage.close()

    run(main())
