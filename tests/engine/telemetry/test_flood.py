"""A flood of logs is cut to a bounded number of lines, and what was left out is told."""

from __future__ import annotations

import logging

from laneway.engine.telemetry.flood import Flood, FloodPolicy


def _record(message: str, name: str = "laneway.x", level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, message, (), None)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_message_passes_so_often_per_window() -> None:
    """What follows is counted, and told with the first line after the window, whatever that is."""
    clock = Clock()
    flood = Flood(clock, FloodPolicy(window_s=10, same=3))
    assert [len(flood.admit(_record("disk is full"))) for _ in range(8)] == [1, 1, 1, 0, 0, 0, 0, 0]
    assert len(flood.admit(_record("something else"))) == 1
    clock.now = 10.0
    summary, record = flood.admit(_record("third"))
    assert summary.getMessage() == "5 more like this were left out: disk is full"
    assert (summary.name, summary.levelno, vars(summary)["suppressed"]) == ("laneway.x", logging.WARNING, 5)
    assert record.msg == "third"
    assert len(flood.admit(_record("disk is full"))) == 1


def test_other_arguments_are_the_same_message_other_loggers_are_not() -> None:
    """The template counts, with the name of its logger."""
    flood = Flood(Clock(), FloodPolicy(same=1))
    first = logging.LogRecord("a", logging.INFO, "", 0, "event %s", ("1",), None)
    second = logging.LogRecord("a", logging.INFO, "", 0, "event %s", ("2",), None)
    other = logging.LogRecord("b", logging.INFO, "", 0, "event %s", ("2",), None)
    assert [len(flood.admit(each)) for each in (first, second, other)] == [1, 0, 1]


def test_messages_that_all_differ_are_bounded_in_number_and_memory() -> None:
    """Beyond so many kinds they share one row; beyond the total nothing passes."""
    clock = Clock()
    flood = Flood(clock, FloodPolicy(window_s=10, same=5, total=12, kinds=10))
    passed = sum(len(flood.admit(_record(f"message {number}"))) for number in range(1_000))
    assert passed == 12
    clock.now = 10.0
    *summaries, _ = flood.admit(_record("next"))
    assert sum(vars(each)["suppressed"] for each in summaries) == 1_000 - 12
    assert len(summaries) <= 11


def test_the_rest_is_told_once() -> None:
    """For the end of a process; the loudest level of what was left out counts."""
    flood = Flood(Clock(), FloodPolicy(same=1))
    for level in (logging.INFO, logging.ERROR, logging.INFO):
        flood.admit(_record("x", level=level))
    (summary,) = flood.rest()
    assert (vars(summary)["suppressed"], summary.levelno) == (2, logging.ERROR)
    assert flood.rest() == []


def test_a_message_that_is_no_text_is_known_by_its_type() -> None:
    """An exception as message, say: it need not be hashable or comparable."""
    flood = Flood(Clock(), FloodPolicy(same=1))
    record = logging.LogRecord("a", logging.INFO, "", 0, {"not": "hashable"}, (), None)
    assert [len(flood.admit(record)) for _ in range(2)] == [1, 0]
