"""The way of a whole frame through the dispatcher's decisions: admitted at once, queued at once, or not at all.

Law of this file: a frame passes here only where each of its events would pass by itself, and it leaves
behind what they would; else nothing has happened, and they go one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter, lt
from typing import Final

from laneway.routing.admission import Admission
from laneway.routing.envelope import DEADLINE, NO_DEADLINE, Envelope
from laneway.routing.frame import Frame
from laneway.routing.lanes import Lane
from laneway.routing.parking import Parking
from laneway.routing.policy import DispatchPolicy
from laneway.routing.routes import Row

__all__ = ["Express"]

_DEADLINE: Final = itemgetter(DEADLINE)


class Express:
    """Decides over frames. Every call O(events).

    Args:
        rows: of the kinds, as far as they are resolved. admission, parking, policy: the dispatcher's.
    """

    __slots__ = ("_admission", "_parking", "_policy", "_rows")

    def __init__(self, rows: Mapping[str, Row], admission: Admission, parking: Parking, policy: DispatchPolicy) -> None:
        self._rows = rows
        self._admission = admission
        self._parking = parking
        self._policy = policy

    def admit(self, frame: Frame, now: float) -> bool:
        """Classify, check and reserve; False if its events must be asked for one by one."""
        rows, kinds, lanes = self._rows, set(frame.kinds), frame.lanes
        if min(lanes) == Lane.CRITICAL or max(lanes) > Lane.LOW or not kinds.isdisjoint(self._policy.run_kinds):
            return False
        highest: dict[str, int] = {}
        for kind in kinds:
            row = rows.get(kind)
            if row is None or row.pool is None:
                return False
            highest[kind] = row.lane
        allowed = list(map(highest.__getitem__, frame.kinds))
        if lanes != allowed and any(map(lt, lanes, allowed)):
            return False
        return self._admission.admit_frame(frame, now)

    def enqueue(self, frame: Frame) -> dict[str, bool] | None:
        """Queue admitted events; returns the pools that have something to take, as `Door` tells them, or None."""
        rows, kinds = self._rows, set(frame.kinds)
        if self._parking.count or min(map(_DEADLINE, frame)) < NO_DEADLINE:
            return None
        pools: dict[str, bool] = {}
        arrivals: dict[str, Sequence[list[Envelope]]] = {}
        for kind in kinds:
            row = rows.get(kind)
            if row is None or row.pool is None or row.push is None:
                return None
            if row.text and frame.largest_bytes > self._policy.part_bytes:
                return None
            pools[row.name], arrivals[kind] = False, row.pool.shared.arrivals
        if len(kinds) == 1 and frame.lanes.count(lane := frame.lanes[0]) == len(frame):
            arrivals[frame.kinds[0]][lane].extend(frame)
        else:
            for env, kind, lane in zip(frame, frame.kinds, frame.lanes):  # noqa: B905 columns of one frame
                arrivals[kind][lane].append(env)
        return pools

    def pool_of(self, kind: str) -> str:
        """Return the pool that events of a kind were queued in by `enqueue`."""
        return self._rows[kind].name
