"""How late the event loop is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from laneway.engine.telemetry.counters import Counters
from laneway.engine.telemetry.lag import LagTicker, Starvation
from tests.simulation.loop import VirtualClock, run


def test_a_loop_that_is_held_shows_its_lag() -> None:
    """Ten looks a second; one that comes late says by how much, and whoever acts on it is told each."""
    counters = Counters()
    told: list[float] = []

    async def main() -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        behind = 0.0

        class Held:
            def now(self) -> float:
                return clock.now() + behind

        ticker = LagTicker(Held(), counters, Starvation(""))
        ticker.tell = lambda lag_s, now: told.append(round(lag_s, 3))
        ticker.start()
        ticker.start()
        await asyncio.sleep(0.45)
        behind = 3.0
        await asyncio.sleep(0.1)
        await ticker.close()
        await ticker.close()
        await asyncio.sleep(5)

    run(main())
    row = counters.snapshot()["loop.lag"]
    assert row["count"] == 5
    assert round(row["sum"], 3) == 3.0
    assert told == [0.0, 0.0, 0.0, 0.0, 3.0]


class _Machine:
    """What a system tells of a thread, as files and clocks do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cpu_s = 5.0
        self.told(2.0)

    def told(self, waited_s: float) -> None:
        self.path.write_text(f"{int(self.cpu_s * 1e9)} {int(waited_s * 1e9)} 77\n")

    def starvation(self) -> Starvation:
        found = Starvation(str(self.path), lambda: self.cpu_s)
        found.open()
        return found


def test_what_others_took_is_known_while_this_process_does_little(tmp_path: Path) -> None:
    """The time that a thread was ready and did not run; from a quarter of a core on, none of it is others' fault."""
    machine = _Machine(tmp_path / "schedstat")
    starvation = machine.starvation()
    machine.told(2.3)
    assert starvation.lost_s(0.4) == pytest.approx(0.3)
    assert starvation.lost_s(0.1) == 0.0
    machine.told(2.6)
    machine.cpu_s += 0.11
    assert starvation.lost_s(0.4) == 0.0, "at work"
    machine.told(2.7)
    machine.cpu_s += 0.09
    assert starvation.lost_s(0.4) == pytest.approx(0.1)
    machine.path.write_text("no numbers")
    assert starvation.lost_s(0.4) == 0.0
    starvation.close()
    starvation.close()
    assert starvation.lost_s(0.4) == 0.0


def test_where_a_system_tells_nothing_all_lag_is_its_own(tmp_path: Path) -> None:
    """No such file, and nothing is discounted."""
    starvation = Starvation(str(tmp_path / "none"))
    starvation.open()
    assert starvation.lost_s(0.4) == 0.0
    starvation.close()


def test_who_acts_on_the_lag_is_told_what_is_not_others_fault(tmp_path: Path) -> None:
    """Both are recorded; a neighbour's part is not told, and no more than there was."""
    counters, machine = Counters(), _Machine(tmp_path / "schedstat")
    told: list[float] = []

    async def main() -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        behind = 0.0

        class Late:
            def now(self) -> float:
                return clock.now() + behind

        ticker = LagTicker(Late(), counters, Starvation(str(machine.path), lambda: machine.cpu_s))
        ticker.tell = lambda lag_s, now: told.append(round(lag_s, 3))
        ticker.start()
        for late_s, starved_s in ((0.0, 0.05), (0.3, 0.2), (0.3, 0.35)):
            await asyncio.sleep(0.05)
            behind += late_s
            machine.told(2.0 + behind if starved_s > late_s > 0 else 2.0 + starved_s)
            await asyncio.sleep(0.051)
        await ticker.close()

    run(main())
    assert told == [0.0, 0.15, 0.0]
    rows = counters.snapshot()
    assert round(rows["loop.lag"]["sum"], 3) == 0.6
    assert round(rows["loop.starved"]["sum"], 3) == 0.45
