"""Starts of handlers, in the logs of their sessions."""

from __future__ import annotations

from laneway.actors.directory.deliveries import DeliveryJournal
from laneway.actors.ports import Principal
from laneway.actors.sessions.intake import INBOUND
from laneway.routing.envelope import SESSION
from tests.actors.sessions.stage import ALICE, Caller, Disk, a_directory, an_event
from tests.simulation.loop import run


def test_deliveries_are_recorded_with_their_sessions() -> None:
    """One call of the journal covers events of many sessions, and skips those that are not awake."""

    async def main() -> None:
        disk = Disk()
        async with a_directory(disk) as (directory, desk):
            for name in ("a", "b"):
                home = await directory.open("t", name)
                home.ingest(Caller(name), [an_event(1)])
            await directory.flush()
            envs = [env for env, _ in desk.queued.values()]
            assert [env[SESSION] for env in envs] == ["a", "b"]
            await DeliveryJournal(directory.find).starting([*envs, an_event(1)])
            for name in ("a", "b"):
                records = await disk.read(f"t/session/{name}", INBOUND, 1)
                assert [entry.blob[:1] for entry in records] == [b"P", b"A", b"S"]
                assert directory.principal_of(envs[0]) == ALICE
            assert directory.principal_of(an_event(1)) == Principal("", "t")

    run(main())
