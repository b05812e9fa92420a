"""Events that need a second look before they are admitted: classified, and checked against their pool's room.

Law of this file: an event goes on to admission with the lane that its kind allows and a pool that takes it,
or is refused with a typed error. How much a pool has room for does not change while a batch is looked at,
unless it shrinks: so what was said to one event is said to all that are like it, in one word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Final, TypeAlias

from laneway.routing.admission import Admission
from laneway.routing.envelope import AFTER, KIND, Envelope
from laneway.routing.errors import LanewayError, PeerProtocolError
from laneway.routing.parking import blocker_of
from laneway.routing.routes import RouteTable
from laneway.routing.verdicts import Verdict

__all__ = ["Triage"]

_Class: TypeAlias = tuple[object, ...]
"""Kind, tenant, session and lane asked for: what the room for an event depends on, if its kind has one pool."""
_Said: TypeAlias = dict[_Class, tuple[LanewayError, float]]
"""What was said to an event of a class, and to which deadline it holds for others."""
_UNSAID: Final[tuple[LanewayError | None, float]] = (None, inf)
_ALIKE_S: Final = 0.05
"""Deadlines of one frame that are no farther apart are one."""


class Triage:
    """Admits batches in which some events are odd: a lane to lower, a pool to choose, a name to check, a full pool.

    Args:
        run_kinds: kinds whose handling is a run.

    Attributes:
        refused: events turned away here for what they are, by error code; those for want of room count as admission's.
    """

    def __init__(self, routes: RouteTable, admission: Admission, run_kinds: frozenset[str]) -> None:
        self._routes = routes
        self._admission = admission
        self._run_kinds = run_kinds
        self.refused: Counter[str] = Counter()

    def admit(self, envs: Sequence[Envelope], now: float) -> list[Verdict]:
        """Classify, check and reserve events; one answer each, in order. O(events)."""
        full: _Said = {}
        answers: list[Verdict | None] = []
        passed: list[Envelope] = []
        turned: list[tuple[Envelope, LanewayError]] = []
        for env in envs:
            error, until = full.get(env[2:5] + env[7:8], _UNSAID) if full and not env[10] else _UNSAID
            if error is None or env[8] > until:
                answer = self._look(env, now, full)
                if isinstance(answer, tuple):
                    passed.append(answer)
                    answers.append(None)
                    continue
                error = answer
            answers.append(error)
            turned.append((env, error))
        decided = iter(self._admission.admit_batch(passed, self._run_kinds, now) if passed else ())
        if turned:  # now, since an event that passed may have been the first of its session
            self._turn_away(turned)
        return [next(decided) if answer is None else answer for answer in answers]

    def _turn_away(self, turned: Sequence[tuple[Envelope, LanewayError]]) -> None:
        """Count what is refused; what is for want of room counts as not yet come."""
        full = [(env, error) for env, error in turned if not isinstance(error, PeerProtocolError)]
        if len(full) < len(turned):
            self.refused[PeerProtocolError.code] += len(turned) - len(full)
        self._admission.turn_away(full)

    def _look(self, env: Envelope, now: float, full: _Said) -> Verdict:
        """Return the event as it is to be admitted, or why it is not; what a full pool said is put into `full`."""
        row = self._routes.rows.get(env[2])
        if row is None:
            try:
                row = self._routes.resolve(env[2])
            except PeerProtocolError as unknown:
                return unknown
        pool = row.pool or row.choose(env)
        if pool is None:
            return self._routes.untaken(env)
        lane, asked = env[7], env[2:5] + env[7:8]
        if lane < row.lane or lane > 3:
            env = (*env[:7], row.lane if lane < row.lane else 3, *env[8:])
        if env[10] and blocker_of(env) is None:
            return PeerProtocolError(
                f"after={env[AFTER][:80]!r} is not the id of another event; write producer:counter", reason="BAD_ID"
            )
        if row.pool is None:  # it is one of several, or its backlog is limited
            refusal = pool.backlog.refuse(env, env[KIND] in self._run_kinds, now)
            if refusal is not None:
                if row.decided:
                    full[asked] = (refusal, env[8] + _ALIKE_S)
                return refusal
        return env
