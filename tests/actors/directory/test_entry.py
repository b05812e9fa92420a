"""The port in front of sessions."""

from __future__ import annotations

from laneway.actors.directory.entry import Entry, Joined
from laneway.routing.errors import LinkLost, Superseded
from tests.actors.sessions.stage import ALICE, Caller, Disk, a_directory, a_hello, an_event
from tests.simulation.loop import run


def test_a_directory_is_an_entry() -> None:
    """It attaches, takes events in beside links, publishes, and says which ends a link may resume from."""

    async def main() -> None:
        async with a_directory(Disk()) as (directory, desk):
            entry: Entry = directory
            link: Joined = await entry.attach(a_hello("c", "s"), ALICE, {"laneway.transport": "test"})
            assert link.live
            caller = Caller("d")
            await entry.ingest("s", caller, [an_event(1, producer="d")])
            await entry.ingest("asleep", caller, [an_event(2, producer="d")])
            await directory.flush()
            assert sorted(caller.ok) == [(1, "durable"), (2, "durable")]
            assert sorted(desk.queued) == ["d:1", "d:2"]
            assert await entry.publish("t", "tenant", b"news") == 1
            assert entry.resumable(LinkLost("silent"))
            assert not entry.resumable(Superseded("newer"))

    run(main())
