"""The packers of an engine are packers."""

from __future__ import annotations

from laneway.actors.packer import LogPacker, Packer
from laneway.engine.app.packing import HostPacking, LogPacking
from laneway.routing.classify import KindTable
from laneway.routing.envelope import ACCEPTED, DEADLINE
from tests.actors.sessions.stage import an_event


def test_what_is_left_of_a_deadline_survives_packing() -> None:
    """Packed at one moment and unpacked at another clock's: as much time is left as was."""
    for packer in (LogPacking(KindTable()), HostPacking(KindTable())):
        packed: Packer = packer
        event = an_event(1, kind="USER_MESSAGE")
        env = (*event[:DEADLINE], 12.5, *event[DEADLINE + 1 :])
        back = packed.unpack(packed.pack(env, 10.0), 100.0)
        assert round(back[DEADLINE] - 100.0, 3) == 2.5


def test_a_log_packer_asks_the_clock_only_for_what_has_a_deadline() -> None:
    """The log's bytes hold what is left of it at this clock's time; an event without one comes back as it was."""

    class Ticking:
        asked = 0

        def now(self) -> float:
            self.asked += 1
            return 10.0

    clock, plain = Ticking(), an_event(1, kind="USER_MESSAGE")
    log = LogPacker(LogPacking(KindTable()), clock)
    packed = log.pack(plain)
    assert clock.asked == 0
    assert log.unpack(packed)[:ACCEPTED] == plain[:ACCEPTED]
    due = (*plain[:DEADLINE], 12.5, *plain[DEADLINE + 1 :])
    assert log.unpack(log.pack(due))[DEADLINE] == 12.5
