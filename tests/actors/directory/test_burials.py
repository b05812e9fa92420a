"""Dead letters of what brought its process down."""

from __future__ import annotations

import pytest

from laneway.actors.directory.burials import Burials
from laneway.engine.app.packing import LogPacking
from laneway.routing.errors import StoreError
from tests.actors.sessions.stage import Disk, a_directory, an_event, kind_table
from tests.simulation.loop import run


def test_an_event_is_over_when_its_letter_is_written() -> None:
    """While the store is away it stays given up and unburied; then its letter names it, and it is over."""

    async def main() -> None:
        disk = Disk()
        async with a_directory(disk) as (directory, _):
            home = await directory.open("t", "s")
            env = an_event(1)
            home.ingress._intake.pending.hold([env])
            home.ingress._intake.deliveries["c", 1] = 3
            home.ingress.unburied.append(env)
            burials = Burials(_Away(disk), LogPacking(kind_table()), directory._clock, lambda: 12.0)
            with pytest.raises(StoreError):
                await burials(home)
            assert home.ingress.unburied == [env]
            burials = Burials(disk, LogPacking(kind_table()), directory._clock, lambda: 12.0)
            await burials(home)
            assert home.ingress.unburied == []
            assert home.ingress.pending == 0
            (letter,) = await disk.dead()
            assert (letter.tenant, letter.session, letter.code, letter.attempts) == ("t", "s", "POISON", 3)
            assert letter.at_unix_s == 12.0

    run(main())


class _Away:
    def __init__(self, disk: Disk) -> None: ...

    async def bury(self, letter: object) -> int:
        raise StoreError("away")
