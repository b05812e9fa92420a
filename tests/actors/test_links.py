"""The links of a session: one per client, whole resumes, the best reader's grant."""

from __future__ import annotations

import pytest

from laneway.actors.ports import Principal
from laneway.routing.errors import AccessError, LaneFull, PeerProtocolError, Superseded
from laneway.routing.handshake import Hello
from laneway.routing.inbox import Inbox
from laneway.routing.replay import Cursor
from tests.simulation.loop import run
from tests.simulation.stage import Stage


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
