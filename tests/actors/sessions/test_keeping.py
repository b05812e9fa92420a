"""What a session said, as it is and as entries; which stores keep it as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from laneway.actors.ports import Claim, Entry
from laneway.actors.sessions.keeping import Run, keeper
from laneway.engine.stores.memory import MemoryStore
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.envelope import BODY, envelope


def test_a_run_can_be_written_as_entries() -> None:
    """One for each event, with its seq and position, packed."""
    events = [
        envelope("CUSTOM", producer="p", counter=n, tenant="t", session="s", lane=2, body=b"%d" % n) for n in (1, 2)
    ]
    run = Run(1, [(7, 100, events[0]), (8, 117, events[1])], lambda env: b"packed " + env[BODY])
    assert run.body_bytes == 2
    assert run.entries() == [Entry(1, 7, 100, b"packed 1"), Entry(1, 8, 117, b"packed 2")]


def test_only_a_store_that_dies_with_its_process_keeps_events(tmp_path: Path) -> None:
    """And no class made from it that writes in another way."""

    class Slower(MemoryStore):
        async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
            await super().append(claim, entries)

    class Named(MemoryStore):
        pass

    assert keeper(MemoryStore()) is not None
    assert keeper(Named()) is not None
    assert keeper(Slower()) is None
    assert keeper(SqliteStore(tmp_path / "log.db")) is None
