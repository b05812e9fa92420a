"""The one table of metrics: name, type, help, labels, and where the number comes from.

Law of this file: a metric that is not here does not exist; nothing else writes a metric's name. Names
follow Prometheus (base units, `_total` for counters), labels are few and their values come from this
program, its configuration or its tools, never from a client: tenant and session are not labels.

A row with a `source` is counted or measured by an actor under that name of the `Probe` port; its labels
are a part of what the actor gives (the rest is summed up). A row without one is read when asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = [
    "BUCKETS_S",
    "BY_NAME",
    "BY_SOURCE",
    "CATALOGUE",
    "LIFETIME_S",
    "RESPONSE_S",
    "Metric",
    "MetricType",
    "markdown",
]

MetricType: TypeAlias = Literal["counter", "gauge", "histogram"]

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds in seconds of waits and calls; 0.5 and 1.0, where alerts stand, are exact."""

RESPONSE_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""Of what a model takes."""

LIFETIME_S: Final = (0.1, 1.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0, 86_400.0)
"""Of connections."""

_UNITS: Final = {"seconds": "s", "bytes": "By"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One row.

    Attributes:
        help: one sentence: what it counts or measures.
        source: the name actors use at the `Probe` port, or empty.
        bounds: upper bounds of a histogram's buckets.
    """

    name: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    source: str = ""
    bounds: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """UCUM unit for OpenTelemetry: "s", "By" or "1"."""
        stem = self.name.removesuffix("_total").rpartition("_")[2]
        return _UNITS.get(stem, "1")


def _counter(name: str, text: str, *labels: str, source: str = "") -> Metric:
    return Metric(name, "counter", text, labels, source)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, "gauge", text, labels)


def _histogram(name: str, text: str, *labels: str, source: str = "", bounds: tuple[float, ...] = BUCKETS_S) -> Metric:
    return Metric(name, "histogram", text, labels, source, bounds)


_CONNECTIONS: Final = (
    _gauge("laneway_connections_active", "Connections open now.", "transport"),
    _gauge("laneway_connections_capacity", "Connections that may be open at once; 0 = not served.", "transport"),
    _counter("laneway_connections_opened_total", "Connections that were begun, refused ones included.", "transport"),
    _counter(
        "laneway_connections_closed_total",
        "Connections that are over: left (the client said goodbye), lost (it went without), ended (in order, by the "
        "engine), refused (never established), failed (an error ended it).",
        "transport",
        "result",
    ),
    _histogram(
        "laneway_connection_duration_seconds",
        "How long connections lasted.",
        "transport",
        source="connection.duration",
        bounds=LIFETIME_S,
    ),
    _counter(
        "laneway_connection_errors_total",
        "Connections that were refused or ended with an error, by its code.",
        "code",
        source="connection.error",
    ),
    _counter(
        "laneway_http_refused_total",
        "HTTP requests that were answered with an error, and upgrades that were refused, by its code.",
        "code",
        source="http.refused",
    ),
    _counter("laneway_http_refused_status_total", "The same by HTTP status.", "http_status", source="http.refused"),
    _counter(
        "laneway_attachments_total",
        "Links attached to sessions: new, resumed (a reconnect that missed nothing), run (reads a run from its "
        "beginning), failed (a reconnect that had to start from a snapshot).",
        "resume",
        source="link.attached",
    ),
    _gauge("laneway_links", "Links attached to sessions now."),
    _gauge("laneway_links_by_grade", "Links by the measured quality of their client's network.", "grade"),
    _gauge("laneway_sessions", "Sessions awake now."),
    _gauge("laneway_sessions_capacity", "Sessions that may be awake at once."),
    _counter("laneway_received_bytes_total", "Bytes of frames taken in.", "transport"),
    _counter("laneway_sent_bytes_total", "Bytes of frames sent.", "transport"),
)

_MESSAGES: Final = (
    _counter("laneway_events_accepted_total", "Events accepted by the dispatcher.", "lane"),
    _counter("laneway_events_ended_total", "Accepted events that are over, by how they ended.", "lane", "status"),
    _gauge("laneway_events_pending", "Accepted events that are not over."),
    _gauge(
        "laneway_conservation_difference", "Accepted minus ended minus pending events; anything but 0 is a bug here."
    ),
    _gauge("laneway_pending_bytes", "Bytes of accepted events that are not over."),
    _counter("laneway_events_refused_total", "Events turned away, by error code.", "code", source="event.refused"),
    _counter("laneway_events_demoted_total", "Critical events beyond their rate, handled as high ones."),
    _counter(
        "laneway_event_errors_total", "Events whose handler failed, by error code.", "code", source="handler.failed"
    ),
    _counter("laneway_pool_errors_total", "Events whose handler failed, by pool.", "pool", source="handler.failed"),
    _histogram(
        "laneway_queue_wait_seconds",
        "From acceptance to the start of the handler, or to the departure for another host.",
        "lane",
        source="queue.wait",
    ),
    _histogram(
        "laneway_event_seconds", "From acceptance to the end, however the event ended.", "lane", source="event.time"
    ),
    _gauge("laneway_backlog_events", "Events queued in front of the pools.", "lane"),
    _gauge("laneway_parked_events", "Events that wait for the one they name."),
    _gauge("laneway_pool_backlog_events", "Events queued for a pool or waiting in its mailboxes.", "pool"),
    _gauge(
        "laneway_pool_limited_lanes", "Lanes that waited too long for a pool, so that what waits is limited.", "pool"
    ),
    _gauge("laneway_pool_running_events", "Events in a pool's handlers.", "pool"),
    _gauge("laneway_pool_hosts", "Hosts that take a pool's events, as its scaler sees them; 0 = not scaled.", "pool"),
    _gauge("laneway_pool_hosts_wanted", "Hosts that a pool should have, by its scaler.", "pool"),
    _counter(
        "laneway_pool_scalings_total", "Times a pool was given more or fewer hosts.", "pool", source="pool.scaled"
    ),
    _counter(
        "laneway_pool_scaling_failures_total",
        "Times a pool could not be brought to the hosts it should have.",
        "pool",
        source="pool.scale_failed",
    ),
    _counter("laneway_events_sent_total", "Events numbered for clients."),
    _gauge("laneway_producers_paused", "Handlers that wait for a client to read."),
)

_RUNS: Final = (
    _counter("laneway_runs_started_total", "Runs accepted.", source="run.started"),
    _counter(
        "laneway_runs_ended_total",
        "Runs that are over: finished, interrupted, failed, lost (the engine stopped while they went on).",
        "outcome",
        source="run.ended",
    ),
    _counter(
        "laneway_stripped_events_total",
        "Events of runs that were RAW, or had a `rawEvent`, which was left out.",
        source="run.stripped",
    ),
    _counter("laneway_stripped_bytes_total", "Bytes left out of runs that way.", source="run.stripped_bytes"),
    _histogram(
        "laneway_run_first_text_seconds",
        "From a run's acceptance to its first text in the log.",
        source="run.first_text",
        bounds=RESPONSE_S,
    ),
    _histogram("laneway_run_seconds", "From a run's acceptance to its end.", source="run.response", bounds=RESPONSE_S),
)

_DROPS: Final = (
    _counter("laneway_gap_events_total", "Events that a client too slow for them was told as a GAP."),
    _counter("laneway_merged_events_total", "Events that travelled in another's item, nothing lost."),
    _counter("laneway_conflated_events_total", "State events not sent because a later one made them unnecessary."),
    _counter(
        "laneway_late_events_total",
        "Events that a handler emitted after its answer, discarded.",
        "pool",
        source="context.late_emits",
    ),
    _gauge(
        "laneway_overload_level",
        "What is shed because the event loop is late: 0 nothing; 1 low events; 2 new sessions and step detail too; "
        "3 new runs too.",
    ),
    _counter(
        "laneway_overload_changes_total",
        "Times a level of overload began, by raising from below or lowering from above.",
        "level",
        source="overload.level",
    ),
    _counter(
        "laneway_overload_dropped_events_total",
        "Events for clients that were left out before they were numbered, because of overload.",
        "kind",
        source="overload.dropped",
    ),
    _counter("laneway_document_gaps_total", "Document updates asked for again.", source="documents.gap"),
    _counter(
        "laneway_document_views_lost_total",
        "Readers of a document who were left out because telling them failed.",
        source="documents.lost_view",
    ),
)

_FAULTS: Final = (
    _counter("laneway_cells_crashed_total", "Handlers that took their worker down.", "cell", source="cell.crashed"),
    _counter(
        "laneway_cells_quarantined_total", "Cells rested for crashing too often.", "cell", source="cell.quarantined"
    ),
    _counter(
        "laneway_handlers_abandoned_total",
        "Handlers given up because they ignored their cancel.",
        "cell",
        source="cell.abandoned",
    ),
    _gauge("laneway_handlers_abandoned", "Abandoned handlers that still run.", "pool"),
    _counter(
        "laneway_recovered_events_total",
        "Events of a former process that were dispatched again.",
        source="event.recovered",
    ),
    _counter("laneway_remote_cells_joined_total", "Cells that other hosts opened here.", "pool", source="cell.joined"),
    _counter("laneway_remote_cells_lost_total", "Cells that were lost with their host.", "pool", source="cell.lost"),
    _counter(
        "laneway_redelivered_events_total",
        "Events that were given to another host because theirs was lost.",
        "pool",
        source="event.redelivered",
    ),
    _counter("laneway_pump_failures_total", "Failed hand-overs to a pool.", "pool", source="dispatch.pump_failed"),
    _counter(
        "laneway_callback_failures_total",
        "Callbacks that raised when told how an event ended.",
        source="dispatch.callback_failed",
    ),
    _counter(
        "laneway_drain_overruns_total",
        "Shutdowns that ended work which was not done in time.",
        source="dispatch.drain_overrun",
    ),
    _counter("laneway_sweep_failures_total", "Failed rounds of housekeeping.", source="engine.sweep_failed"),
    _counter("laneway_document_fences_total", "Documents taken over by another engine.", source="documents.fenced"),
)

_STORE: Final = (
    _histogram("laneway_store_commit_seconds", "One append of a session's log.", source="store.commit"),
    _counter("laneway_store_failures_total", "Appends that failed.", source="store.failed"),
    _gauge("laneway_store_failing_sessions", "Sessions whose log cannot be written now."),
    _gauge("laneway_store_backlog_bytes", "Bytes numbered or accepted and not yet in the store."),
)

_TOOLS: Final = (
    _counter(
        "laneway_tool_calls_total",
        "Tool calls, by what came of them: OK or an error's code.",
        "result",
        source="tool.calls",
    ),
    _counter("laneway_tool_errors_total", "Tool calls that were answered with an error.", "tool", source="tool.errors"),
    _histogram("laneway_tool_seconds", "A tool call from its request to its answer.", "tool", source="tool.seconds"),
    _gauge("laneway_tool_breaker_state", "0 closed, 1 half open (one call tries), 2 open (calls are refused).", "tool"),
    _gauge("laneway_tool_limit", "Calls of a tool that may run at once, as found by its limiter.", "tool"),
    _gauge("laneway_tool_running_calls", "Calls of a tool that run.", "tool"),
    _gauge("laneway_tool_waiting_calls", "Calls of a tool that wait for their turn.", "tool"),
)

_TELEMETRY: Final = (
    _counter("laneway_spans_dropped_total", "Finished spans that could not be exported."),
    _counter("laneway_log_lines_dropped_total", "Log lines that could not be written, or were cut off in a flood."),
    _counter("laneway_metric_exports_failed_total", "Exports of metrics that failed.", source="metrics.export_failed"),
)

_PROCESS: Final = (
    _counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds."),
    _gauge("process_resident_memory_bytes", "Resident memory size in bytes."),
    _gauge("process_virtual_memory_bytes", "Virtual memory size in bytes."),
    _gauge("process_open_fds", "Number of open file descriptors."),
    _gauge("process_max_fds", "Maximum number of open file descriptors."),
    _gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds."),
    _gauge("laneway_memory_limit_bytes", "Memory this process may use: its cgroup's limit, else the machine's."),
    _histogram("laneway_event_loop_lag_seconds", "How late the event loop was for a timer.", source="loop.lag"),
    _histogram(
        "laneway_event_loop_starved_seconds",
        "Of that lag: other programs had the processor.",
        source="loop.starved",
    ),
)

CATALOGUE: Final[tuple[Metric, ...]] = (
    *_CONNECTIONS,
    *_MESSAGES,
    *_RUNS,
    *_DROPS,
    *_FAULTS,
    *_STORE,
    *_TOOLS,
    *_TELEMETRY,
    *_PROCESS,
)
"""Every metric, in the order of the exposition."""

BY_NAME: Final = {metric.name: metric for metric in CATALOGUE}

BY_SOURCE: Final[dict[str, tuple[Metric, ...]]] = {
    source: tuple(metric for metric in CATALOGUE if metric.source == source)
    for source in dict.fromkeys(metric.source for metric in CATALOGUE if metric.source)
}


def markdown() -> str:
    """Return the catalogue as a Markdown table, for people."""
    rows = ["| metric | type | labels | what |", "|---|---|---|---|"]
    rows += [f"| `{m.name}` | {m.type} | {', '.join(m.labels)} | {m.help} |" for m in CATALOGUE]
    return "\n".join(rows) + "\n"
