"""What the engine can tell about itself at any moment, as the catalogue's metrics.

Law of this file: reading costs only when asked for: it asks the parts for their statistics, and
changes nothing. Label values are the engine's own: lanes, pools, cells, tools, transports, codes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from laneway.actors.dispatch.accounts import DispatcherStatistics
from laneway.actors.dispatch.books import ENDINGS
from laneway.actors.sessions.census import DirectoryStatistics
from laneway.engine.app.overload import LEVELS
from laneway.engine.edge.status import HTTP_STATUSES
from laneway.engine.edge.traffic import RESULTS, Traffic
from laneway.engine.telemetry.families import Family, Readings, families
from laneway.engine.telemetry.process import process_readings
from laneway.routing.errors import LanewayError
from laneway.routing.lanes import LANE_NAMES
from laneway.routing.quality import Grade

if TYPE_CHECKING:
    from laneway.engine.app.engine import Engine

__all__ = ["ERROR_CODES", "domains", "measured", "readings"]

_Series = dict[tuple[str, ...], float]
_BREAKER: Final = {"closed": 0, "half_open": 1, "open": 2}
_UNKNOWN_TOOL: Final = "?"
_RESUMES: Final = ("new", "resumed", "run", "failed")
_OUTCOMES: Final = ("finished", "interrupted", "failed", "lost")


def _codes(error: type[LanewayError]) -> Iterable[str]:
    yield error.code
    for kind in error.__subclasses__():
        if kind.__module__ == LanewayError.__module__:
            yield from _codes(kind)


ERROR_CODES: Final = tuple(sorted(set(_codes(LanewayError))))
"""Every code of the error tree."""


def measured(engine: Engine) -> list[Family]:
    """Return every metric with all its series at this moment."""
    return families(engine.telemetry.counters.recorded(), readings(engine), domains(engine))


def domains(engine: Engine) -> Mapping[str, Sequence[str]]:
    """Return label -> the values it can have in this engine."""
    pools = engine.statistics()[0].pools
    return {
        "lane": LANE_NAMES,
        "grade": [grade.name.lower() for grade in Grade],
        "status": ENDINGS,
        "http_status": tuple(str(status) for status in HTTP_STATUSES),
        "transport": tuple(engine.telemetry.traffic),
        "outcome": _OUTCOMES,
        "resume": _RESUMES,
        "code": ERROR_CODES,
        "result": ("OK", *ERROR_CODES),
        "level": LEVELS,
        "kind": sorted(kind.name for kind in engine.kinds if kind.droppable or kind.detail),
        "pool": [pool.name for pool in pools],
        "cell": [cell.name for pool in pools for cell in pool.cells],
        "tool": [_UNKNOWN_TOOL, *(tool.spec.name for tool in engine.tools.catalogue)],
    }


def readings(engine: Engine) -> Readings:
    """Return everything that is read when asked. O(pools + sessions awake + links)."""
    dispatcher, sessions = engine.statistics()
    single = {
        **_of_dispatcher(dispatcher),
        **_of_sessions(sessions),
        **process_readings(),
        "laneway_overload_level": engine.overload.level,
        "laneway_spans_dropped_total": engine.telemetry.spans_lost,
        "laneway_log_lines_dropped_total": _log_lines_dropped(),
    }
    return {
        **{name: {(): value} for name, value in single.items()},
        "laneway_links_by_grade": {(grade.name.lower(),): sessions.grades[grade] for grade in Grade},
        **_by_lane(dispatcher),
        **_by_pool(dispatcher),
        **_by_scaled_pool(engine, dispatcher),
        **_by_transport(engine.telemetry.traffic.values()),
        **_by_tool(engine),
    }


def _of_dispatcher(books: DispatcherStatistics) -> dict[str, float]:
    ended = sum(sum(lane.values()) for lane in books.ended_by_lane)
    return {
        "laneway_events_pending": books.pending,
        "laneway_conservation_difference": sum(books.accepted_by_lane) - ended - books.pending,
        "laneway_pending_bytes": books.core.pending_bytes,
        "laneway_events_demoted_total": books.core.demoted,
        "laneway_parked_events": books.core.parked,
    }


def _of_sessions(sums: DirectoryStatistics) -> dict[str, float]:
    return {
        "laneway_sessions": sums.sessions,
        "laneway_sessions_capacity": sums.capacity,
        "laneway_links": sums.links,
        "laneway_events_sent_total": sums.issued,
        "laneway_producers_paused": sums.paused,
        "laneway_gap_events_total": sums.gapped,
        "laneway_merged_events_total": sums.merged,
        "laneway_conflated_events_total": sums.conflated,
        "laneway_store_failing_sessions": sums.failing,
        "laneway_store_backlog_bytes": sums.commit_backlog_bytes,
    }


def _log_lines_dropped() -> int:
    """Of this process's log; an application that logs by its own handlers counts by itself."""
    from laneway.engine.telemetry.logs import LogHandler  # for who reads metrics, not for every start

    return sum(each.dropped for each in logging.getLogger().handlers if isinstance(each, LogHandler))


def _by_lane(books: DispatcherStatistics) -> dict[str, _Series]:
    lanes = range(len(LANE_NAMES))
    return {
        "laneway_events_accepted_total": {(LANE_NAMES[lane],): books.accepted_by_lane[lane] for lane in lanes},
        "laneway_events_ended_total": {
            (LANE_NAMES[lane], status): count for lane in lanes for status, count in books.ended_by_lane[lane].items()
        },
        "laneway_backlog_events": {
            (LANE_NAMES[lane],): books.core.waiting[lane]
            + sum(cell.waiting[lane] for pool in books.pools for cell in pool.cells)
            for lane in lanes
        },
    }


def _by_pool(books: DispatcherStatistics) -> dict[str, _Series]:
    return {
        "laneway_pool_backlog_events": {
            (pool.name,): books.core.pools.get(pool.name, 0) + pool.waiting for pool in books.pools
        },
        "laneway_pool_limited_lanes": {(pool.name,): len(books.core.limits.get(pool.name, ())) for pool in books.pools},
        "laneway_pool_running_events": {(pool.name,): pool.running for pool in books.pools},
        "laneway_handlers_abandoned": {(pool.name,): pool.abandoned for pool in books.pools},
    }


def _by_scaled_pool(engine: Engine, books: DispatcherStatistics) -> dict[str, _Series]:
    loads = engine.cluster.loads if engine.cluster is not None else {}
    pools = [pool.name for pool in books.pools]
    return {
        "laneway_pool_hosts": {(name,): loads[name].ready if name in loads else 0 for name in pools},
        "laneway_pool_hosts_wanted": {(name,): loads[name].wanted if name in loads else 0 for name in pools},
    }


def _by_transport(rows: Iterable[Traffic]) -> dict[str, _Series]:
    every = list(rows)
    return {
        "laneway_connections_active": {(row.transport,): row.active for row in every},
        "laneway_connections_capacity": {(row.transport,): row.capacity for row in every},
        "laneway_connections_opened_total": {(row.transport,): row.opened for row in every},
        "laneway_connections_closed_total": {
            (row.transport, result): row.closed[result] for row in every for result in RESULTS
        },
        "laneway_received_bytes_total": {(row.transport,): row.received_bytes for row in every},
        "laneway_sent_bytes_total": {(row.transport,): row.sent_bytes for row in every},
    }


def _by_tool(engine: Engine) -> dict[str, _Series]:
    rows = engine.builtins.tools()
    return {
        "laneway_tool_breaker_state": {(name,): _BREAKER[row.breaker] for name, row in rows.items()},
        "laneway_tool_limit": {(name,): row.limit for name, row in rows.items()},
        "laneway_tool_running_calls": {(name,): row.in_flight for name, row in rows.items()},
        "laneway_tool_waiting_calls": {(name,): row.waiting for name, row in rows.items()},
    }
