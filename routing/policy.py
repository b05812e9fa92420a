"""How one dispatcher decides: everything that an operator may set, in one value.

Law of this file: values only, each with a default under which nobody is hurt who does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from laneway.routing.backlog import TARGET_WAIT_S
from laneway.routing.codel import CodelPolicy
from laneway.routing.lanes import LANE_WEIGHTS
from laneway.routing.limits import AdmissionPolicy
from laneway.routing.parts import PART_BYTES
from laneway.routing.quotas import QuotaPolicy

__all__ = ["DispatchPolicy"]


@dataclass(frozen=True, slots=True)
class DispatchPolicy:
    """How one dispatcher decides.

    Attributes:
        admission: rates, caps and budgets. quotas: of tenants and subjects, over all their sessions.
        weights, age_s: shares of the lanes, and ageing; see `Scheduler`.
        after_wait_s: how long an event waits at most for the one its `after` names.
        part_bytes: larger text bodies are scheduled as parts.
        text_kinds: kinds besides `Kind.text` whose body is plain UTF-8.
        run_kinds: kinds whose handling is a run; see `Admission.admit`.
        codel: when low events that keep waiting are dropped.
        target_wait_s: of pools that have none of their own; see `backlog`. Infinity: no limit.
    """

    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    quotas: QuotaPolicy = field(default_factory=QuotaPolicy)
    weights: tuple[int, ...] = LANE_WEIGHTS
    age_s: float = 0.25
    after_wait_s: float = 5.0
    part_bytes: int = PART_BYTES
    text_kinds: frozenset[str] = frozenset({"USER_MESSAGE"})
    run_kinds: frozenset[str] = frozenset({"USER_MESSAGE", "RUN_INPUT"})
    codel: CodelPolicy = field(default_factory=CodelPolicy)
    target_wait_s: float = TARGET_WAIT_S
