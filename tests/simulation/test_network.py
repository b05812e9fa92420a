"""The simulated connection."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.simulation.faults import CALM, Faults, Weather
from tests.simulation.loop import run
from tests.simulation.network import Broken, Connection


def _carried(weather: Weather, *, posts: bool, loose: bool) -> list[int]:
    """What arrives of frames 0 to 49."""

    async def main() -> list[int]:
        connection = Connection(Faults(1, weather), posts=posts)
        got: list[int] = []

        async def read() -> None:
            while True:
                got.append(int(await connection.server.receive()))

        for number in range(50):
            await connection.client.send(b"%d" % number, loose=loose)
        connection.client.close()
        with pytest.raises(Broken):
            await read()
        return got

    return run(main())


def test_frames_arrive_in_order() -> None:
    """Whatever each one's delay; and posts that carry events keep their order too."""
    assert _carried(replace(CALM, stall=0.2), posts=False, loose=True) == list(range(50))
    assert _carried(replace(CALM, reorder=0.5), posts=True, loose=False) == list(range(50))


def test_posts_come_twice_and_in_another_order() -> None:
    """All of them arrive; the first, which opens the stream, once; what carries no events may be overtaken."""
    got = _carried(replace(CALM, double=0.3, reorder=0.3), posts=True, loose=True)
    assert set(got) == set(range(50))
    assert got.count(0) == 1
    assert len(got) > 50
    assert got != sorted(got)


def test_a_reader_that_stops_stops_the_writer() -> None:
    """No more than a window is under way."""

    async def main() -> int:
        connection = Connection(Faults(1, CALM))
        sent = 0
        try:
            async with asyncio.timeout(60):
                while True:
                    await connection.client.send(bytes(1000))
                    sent += 1
        except TimeoutError:
            return sent

    assert run(main()) == 32


def test_a_cut_loses_what_is_under_way() -> None:
    """Both ends hear of it, and a frame that had not arrived never does."""

    async def main() -> None:
        faults = Faults(1, CALM)
        connection = Connection(faults)
        await connection.client.send(b"lost")
        connection.cut()
        for end in (connection.client, connection.server):
            with pytest.raises(Broken):
                await end.receive()
        assert faults.fired["frames lost under way"] == 1

    run(main())
