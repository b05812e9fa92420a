"""What of a session's log is kept."""

from __future__ import annotations

from tests.simulation.loop import run
from tests.simulation.stage import Stage


def test_what_went_on_unread_stays_until_somebody_has_it() -> None:
    """Retention alone would let it go; the reader that comes back gets all of it, and then it goes."""

    async def main() -> None:
        stage = await Stage(ring_events=4, retention_bytes=2_000, budget_bytes=100_000).start()
        viewer = await stage.attach()
        stage.directory.when_unread("t", "s", "r", "close")
        for number in range(140):
            await stage.emit("CUSTOM", bytes([number]) * 1_000)
        home = await stage.home()
        await home.flush()
        await home.maintain()
        await viewer.read()
        await viewer.ack(grant=1_000_000)
        await viewer.read()
        assert [item.envelope[11][0] for item in viewer.items] == list(range(140))
        await viewer.ack()
        await home.maintain()
        assert (await stage.store.read("t/session/s", 1, 1))[0].seq > 100
        await stage.close()

    run(main())
