"""The runs of one session that are not over: whose they are, what was told of them, how long they took.

Law of this file: a run is begun once and over once, and each end is counted: finished, interrupted,
failed, or lost (the process stopped while it went on).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Clock, Outcome, Principal
from laneway.routing.envelope import ACCEPTED, RUN, Envelope

__all__ = ["RunBook"]

_RESULTS: Final = {
    "handled": "finished",
    "cancelled": "interrupted",
    "failed": "failed",
    "expired": "failed",
    "dropped": "failed",
    "dead": "lost",
}
"""What the ending of an event means for the run that it started."""


@dataclass(slots=True)
class _Run:
    """A run this home knows."""

    principal: Principal
    accepted: float
    told: bool


class RunBook:
    """Runs by id. All operations O(1).

    Args:
        awaited: run -> when it was accepted, until its first text; see `Outbound`.
        meters: counters `run.started`, `run.ended`; histogram `run.response`.
    """

    def __init__(self, clock: Clock, awaited: dict[str, float], meters: SessionMeters) -> None:
        self._clock = clock
        self._awaited = awaited
        self._meters = meters
        self._runs: dict[str, _Run] = {}

    def begin(self, env: Envelope, principal: Principal) -> None:
        """A run was accepted."""
        self._runs[env[RUN]] = _Run(principal, env[ACCEPTED], told=False)
        self._awaited[env[RUN]] = env[ACCEPTED]
        self._meters.count("run.started")

    def inherit(self, env: Envelope, principal: Principal, *, told: bool) -> None:
        """A former home left a run; `told` = its end is in the log already."""
        self._runs[env[RUN]] = _Run(principal, env[ACCEPTED], told)

    def principal(self, run: str) -> Principal | None:
        """Return whose run it is, or None if it is not known."""
        known = self._runs.get(run)
        return None if known is None else known.principal

    def told(self, run: str) -> None:
        """The end of a run was numbered."""
        known = self._runs.get(run)
        if known is not None:
            known.told = True

    def over(self, env: Envelope, outcome: Outcome) -> bool:
        """Forget a run; returns whether its end must still be told to the session."""
        run = self._runs.pop(env[RUN], None)
        self._awaited.pop(env[RUN], None)
        self._meters.count("run.ended", outcome=_RESULTS[outcome.status])
        if run is not None and outcome.status != "dead":
            self._meters.response(self._clock.now() - run.accepted)
        return outcome.status != "handled" and (run is None or not run.told)
