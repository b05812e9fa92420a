"""Edge: every user is served and every session is open, or there is no figure. No times."""

from __future__ import annotations

import asyncio
import os

import pytest

from benchmarks import catalogue, edge
from benchmarks.counts import Lost
from benchmarks.measure import Options, Stage, Stopwatch
from benchmarks.wire import Wire


@pytest.mark.slow
def test_each_row_accounts_for_everybody() -> None:
    """More users than connections; all of them served, all sessions open, all requests answered."""
    options = Options(users=45, sessions=60, seconds=0.02, overload_repeats=1)
    rows = {row.row: row for row in edge.run(options, lambda _: None)}
    assert list(rows) == [catalogue.BARE, catalogue.LANEWAY, edge.USERS, edge.SESSIONS]
    assert [row.extra["count"] for row in rows.values()] == [120, 120, 45, 60]
    for name in (catalogue.BARE, catalogue.LANEWAY):
        assert all(rows[name].figure(figure) is not None for figure in ("mean_ms", "p99_ms", "most_per_s"))
    assert rows[edge.USERS].figure("success") == 1.0
    assert rows[edge.USERS].figure("connections") == edge.CONNECTIONS
    assert rows[edge.SESSIONS].figure("each_kb") is not None


@pytest.mark.slow
def test_an_answer_that_lacks_a_token_leaves_no_figure() -> None:
    """Everybody gets the whole answer."""
    with pytest.raises(Lost, match="had 19 tokens, not 20"):
        asyncio.run(_once(edge.serve_users(3, 19)))


@pytest.mark.slow
def test_a_session_that_is_not_there_leaves_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's own count of sessions decides; the row says which link has ended since, and why."""
    hello, close = Wire.hello, Wire.close

    async def brief(self: Wire, heartbeat_s: float = 0.0) -> None:
        await hello(self, heartbeat_s)
        if self.session == "open7":
            await close(self)

    monkeypatch.setattr(Wire, "hello", brief)
    with pytest.raises(Lost, match="20 were opened, and the engine has 19; open7: LINK_CLOSED: ended without a word"):
        asyncio.run(_once(edge.weigh(20)))


@pytest.mark.slow
def test_a_link_that_is_refused_leaves_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row says which link was refused, and with which error."""
    hello = Wire.hello

    async def disguised(self: Wire, heartbeat_s: float = 0.0) -> None:
        self.producer = "no id" if self.session == "open7" else self.producer
        await hello(self, heartbeat_s)

    monkeypatch.setattr(Wire, "hello", disguised)
    with pytest.raises(Lost, match="open7 was not welcomed: MALFORMED/BAD_ID"):
        asyncio.run(_once(edge.weigh(20)))


async def _once(stage: Stage) -> int:
    return await stage(Stopwatch())


def test_memory_is_that_of_the_process() -> None:
    """What the kernel says, in bytes."""
    assert 2**20 < edge.resident_bytes(os.getpid()) < 2**40
