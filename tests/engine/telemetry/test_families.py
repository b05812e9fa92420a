"""The catalogue filled in."""

from __future__ import annotations

from laneway.engine.telemetry.counters import Counters, Distribution
from laneway.engine.telemetry.families import Value, families

DOMAINS = {"lane": ("critical", "low"), "code": ("A", "B"), "pool": ("nlp",), "tool": ("add",)}


def _series(counters: Counters, name: str, **readings: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], Value]:
    found = families(counters.recorded(), readings, DOMAINS)
    return dict(next(family.series for family in found if family.metric.name == name))


def test_every_series_exists_from_the_start() -> None:
    """With 0, so that a rate sees the first event; histograms too."""
    assert _series(Counters(), "laneway_event_errors_total") == {("A",): 0, ("B",): 0}
    waits = _series(Counters(), "laneway_queue_wait_seconds")
    assert [(key, value.count) for key, value in waits.items() if isinstance(value, Distribution)] == [
        (("critical",), 0),
        (("low",), 0),
    ]


def test_one_count_feeds_every_row_of_its_source() -> None:
    """By pool and by code: each row sums up what it does not show."""
    counters = Counters()
    counters.count("handler.failed", pool="nlp", code="A")
    counters.count("handler.failed", 2, pool="nlp", code="B")
    assert _series(counters, "laneway_event_errors_total") == {("A",): 1, ("B",): 2}
    assert _series(counters, "laneway_pool_errors_total") == {("nlp",): 3}


def test_what_was_not_expected_is_kept_in_order() -> None:
    """A code of an embedder's own error is seen like any other; names the catalogue has not are left out."""
    counters = Counters()
    counters.count("handler.failed", pool="mine", code="AA")
    counters.count("something.else")
    assert list(_series(counters, "laneway_event_errors_total")) == [("A",), ("AA",), ("B",)]


def test_histograms_are_added_bucket_by_bucket() -> None:
    """Two recorders of one series are one series."""
    counters = Counters()
    counters.observe("tool.seconds", 0.5, tool="add", extra="1")
    counters.observe("tool.seconds", 0.6, tool="add", extra="2")
    value = _series(counters, "laneway_tool_seconds")["add",]
    assert isinstance(value, Distribution)
    assert (value.count, value.total) == (2, 1.1)


def test_what_the_machine_cannot_tell_is_left_out() -> None:
    """No open descriptors known: no series, not a 0."""
    found = {family.metric.name for family in families([], {"process_open_fds": {(): 3}}, DOMAINS)}
    assert "process_open_fds" in found
    assert "process_max_fds" not in found
