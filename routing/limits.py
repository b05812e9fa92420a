"""The limits of one dispatcher, and what each class of events may use of them.

Law of this file: values only. A cap is never shared evenly: of every session's and tenant's cap, and
of every burst, low events may use the smallest part, normal ones more, those that start runs still
more, high ones all, and critical ones a reserve beyond it. So whatever a session floods itself with,
low is refused first, then normal, then new runs, then high, and critical last.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf
from typing import Final, NamedTuple

from laneway.routing.errors import ConfigError
from laneway.routing.lanes import LANE_COUNT

__all__ = ["RUN", "AdmissionPolicy", "Row", "rows"]

RUN: Final = LANE_COUNT
"""Row of events that start a run; the rows before it are the lanes."""


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """The limits of one dispatcher. Infinity or a huge number means no limit.

    Attributes:
        rate_per_s, burst: events of one session in the long run, and at once.
        critical_per_s, critical_burst: critical events of one session before the rest is demoted.
        session_events, session_bytes: in flight per session. An event larger than the cap is
            admitted when its session has nothing else in flight.
        low_share, normal_share, run_share: how much of the session's and the tenant's caps, and of the
            session's burst, may be in use for one more low, normal, or run-starting event to be
            admitted. What is above is left to more urgent events, such as the tool calls of running runs.
        critical_bytes: what critical events may take beyond the session's cap (and `critical_burst`
            of them).
        tenant_events, tenant_bytes: in flight per tenant; critical events are exempt.
        process_bytes: budget of all bodies in flight.
        spill_ratio, refuse_ratio: from which share of the budget on low, and all but critical
            events, are refused.
        max_sessions: sessions known at once; beyond it new ones are refused.
        full_retry_s: what a full session or tenant is told to wait: a few batches' time.
    """

    rate_per_s: float = 1_000.0
    burst: float = 3_000.0
    critical_per_s: float = 20.0
    critical_burst: int = 50
    session_events: int = 384
    session_bytes: int = 393_216
    low_share: float = 0.5
    normal_share: float = 0.75
    run_share: float = 0.875
    critical_bytes: int = 65_536
    tenant_events: int = 65_536
    tenant_bytes: int = 67_108_864
    process_bytes: int = 1 << 30
    spill_ratio: float = 0.8
    refuse_ratio: float = 0.9
    max_sessions: int = 65_536
    full_retry_s: float = 0.1

    def __post_init__(self) -> None:
        """Raise ConfigError for limits under which nothing could be admitted."""
        lowest = min(self.session_events, self.session_bytes, self.tenant_events, self.tenant_bytes)
        if min(lowest, self.process_bytes, self.max_sessions, self.critical_burst) < 1:
            raise ConfigError("a cap of admission is below 1, so nothing would be admitted; raise it")
        if not 0.0 < self.low_share <= self.normal_share <= self.run_share <= 1.0:
            raise ConfigError("low_share, normal_share and run_share must lie in (0, 1], and not fall in this order")
        if not 0.0 < self.spill_ratio <= self.refuse_ratio <= 1.0:
            raise ConfigError("shares of admission must lie in (0, 1], with spill_ratio not above refuse_ratio")


class Row(NamedTuple):
    """What one class of events may use.

    Attributes:
        events, bytes: of the session. tenant_events, tenant_bytes: of the tenant.
        budget: of the process, in bytes.
        ahead_s: how far the session's rate may be ahead of now; see `Gcra.tolerance_s`.
    """

    events: float
    bytes: float
    tenant_events: float
    tenant_bytes: float
    budget: float
    ahead_s: float


def rows(p: AdmissionPolicy) -> tuple[Row, ...]:
    """Return the row of each lane, then `RUN`'s."""

    def part(share: float, budget: float) -> Row:
        return Row(
            ceil(p.session_events * share),
            ceil(p.session_bytes * share),
            ceil(p.tenant_events * share),
            ceil(p.tenant_bytes * share),
            budget,
            max(1.0, p.burst * share) / p.rate_per_s,
        )

    refuse, spill = p.process_bytes * p.refuse_ratio, p.process_bytes * p.spill_ratio
    critical = Row(p.session_events + p.critical_burst, p.session_bytes + p.critical_bytes, inf, inf, inf, inf)
    return (
        critical,
        part(1.0, refuse),
        part(p.normal_share, refuse),
        part(p.low_share, spill),
        part(p.run_share, refuse),
    )
