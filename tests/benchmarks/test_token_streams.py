"""W3: every row carries every token once and in order. No times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks import token_streams
from benchmarks.counts import Lost
from benchmarks.measure import Options, Stopwatch
from benchmarks.token_source import TOKEN_CHARS, Reading, tokens
from tests.outside import require

SMALL = Options(streams=5, repeats=1)


@pytest.mark.slow
@pytest.mark.parametrize("row", token_streams.ROWS)
@pytest.mark.parametrize("gap_s", [0.0, 0.002], ids=["burst", "paced"])
def test_each_row_carries_every_token(row: str, gap_s: float) -> None:
    """Some streams at once, merged and split on the way or not."""
    if row == "nats":
        require("nats-server", package="nats-server")
    figure = token_streams.measure(token_streams.BURST, row, token_streams.ROWS[row], SMALL, 60, gap_s)
    assert figure.extra["count"] == 300
    for name in ("first_p99_ms", "lag_p99_ms", "beyond_window_p99_ms"):
        assert figure.figure(name) is not None


def test_tokens_are_read_whole_however_they_are_cut() -> None:
    """Merged or cut anywhere, each token counts when its last character came."""

    async def made() -> str:
        return "".join([token async for token in tokens(30, 0.0)])

    text = asyncio.run(made())
    assert len(text) == 30 * TOKEN_CHARS
    reading = Reading()
    for at in range(0, len(text), 5):
        reading.take(text[at : at + 5])
        assert len(reading.lags_s) == min(len(text), at + 5) // TOKEN_CHARS
    assert all(lag_s >= 0 for lag_s in reading.lags_s)


@pytest.mark.parametrize("spoiled", [[1, 2], [0, 2], [0, 0]], ids=["first missing", "hole", "repeat"])
def test_a_missing_or_repeated_token_is_seen(spoiled: list[int]) -> None:
    """The letters say which one should come."""
    text = "".join(f"{chr(97 + number)}0000000" for number in spoiled)
    with pytest.raises(ValueError, match="should begin with"):
        Reading().take(text)


def test_a_stream_that_ends_early_leaves_no_figure() -> None:
    """All of its tokens, or nothing."""

    @asynccontextmanager
    async def short(watch: Stopwatch, streams: int) -> AsyncIterator[token_streams.Ask]:
        async def ask(number: int, request: str, reading: Reading) -> None:
            async for token in tokens(9, 0.0):
                reading.take(token)

        yield ask

    with pytest.raises(Lost, match="ended after 9 of 10 tokens"):
        token_streams.measure(token_streams.BURST, "short", short, SMALL, 20, 0.0)
