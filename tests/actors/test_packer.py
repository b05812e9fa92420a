"""The packers of an engine are packers."""

from __future__ import annotations

from laneway.actors.packer import Packer
from laneway.engine.app.packing import HostPacking, LogPacking
from laneway.routing.classify import KindTable
from laneway.routing.envelope import DEADLINE
from tests.actors.sessions.stage import an_event


def test_what_is_left_of_a_deadline_survives_packing() -> None:
    """Packed at one moment and unpacked at another clock's: as much time is left as was."""
    for packer in (LogPacking(KindTable()), HostPacking(KindTable())):
        packed: Packer = packer
        event = an_event(1, kind="USER_MESSAGE")
        env = (*event[:DEADLINE], 12.5, *event[DEADLINE + 1 :])
        back = packed.unpack(packed.pack(env, 10.0), 100.0)
        assert round(back[DEADLINE] - 100.0, 3) == 2.5
