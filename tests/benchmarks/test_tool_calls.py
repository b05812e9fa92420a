"""W2: every row answers every call with its own number. No times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks import tool_calls
from benchmarks.counts import Lost
from benchmarks.measure import Options, Stopwatch
from tests.outside import require


@pytest.mark.slow
@pytest.mark.parametrize("row", tool_calls.ROWS)
def test_each_row_answers_every_call(row: str) -> None:
    """More calls than may run at once; the engine's books name as many."""
    if row == "nats":
        require("nats-server", package="nats-server")
    figure = tool_calls.measure(row, tool_calls.ROWS[row], Options(calls=300, repeats=1))
    assert (figure.workload, figure.extra["count"]) == ("W2", 300)
    assert figure.figure("p99_ms") is not None


def test_a_wrong_answer_leaves_no_figure() -> None:
    """Call 5 answered with 6 ends the row."""

    @asynccontextmanager
    async def wrong(watch: Stopwatch) -> AsyncIterator[tool_calls.Opened]:
        async def call(number: int) -> int:
            return number + (number == 5)

        yield tool_calls.Opened(call)

    with pytest.RaisesGroup(pytest.RaisesExc(Lost, match="call 5 was answered 6")):
        tool_calls.measure("wrong", wrong, Options(calls=20, repeats=1))
