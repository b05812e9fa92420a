"""The writer thread on its own: order, results after the commit, an ordered end."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest

from laneway.engine.stores.database import Bounds, Database
from laneway.engine.stores.versions import Put
from laneway.engine.stores.writer import Writer
from laneway.routing.errors import LanewayError, LocalProtocolError, StoreError


def writer(path: Path, max_pending_bytes: int = 10_000) -> Writer:
    opening = partial(Database, path, sync="normal", busy_s=0.1, bounds=Bounds(), factory=sqlite3.Connection)
    return Writer(str(path), opening, max_pending_bytes)


def test_jobs_run_in_order_in_one_thread(tmp_path: Path) -> None:
    """Jobs see each other in the order of their submission, off the loop's thread."""

    async def main() -> None:
        made = writer(tmp_path / "s.db")
        order: list[int] = []
        threads: set[int] = set()

        def job(number: int, database: Database) -> int:
            order.append(number)
            threads.add(threading.get_ident())
            return number

        results = await asyncio.gather(*(made.submit(partial(job, number)) for number in range(300)))
        assert results == order == list(range(300))
        assert len(threads) == 1
        assert threading.get_ident() not in threads
        made.stop()
        assert made.join(10)

    asyncio.run(main())


def test_a_refusal_is_its_own(tmp_path: Path) -> None:
    """A LanewayError of one job goes to its caller; the others are committed."""

    async def main() -> None:
        made = writer(tmp_path / "s.db")

        def refuse(database: Database) -> None:
            raise LocalProtocolError("no")

        calls = [made.submit(lambda d: d.put_all([Put("a", b"1", None, None, 0.0)])), made.submit(refuse)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[0] == [1]
        assert isinstance(results[1], LocalProtocolError)
        assert (await made.submit(lambda d: d.get("a", 0.0))).value == b"1"
        made.stop()
        assert made.join(10)

    asyncio.run(main())


def test_what_waits_when_stopping_is_done_and_what_comes_later_refused(tmp_path: Path) -> None:
    """stop() finishes the queue; submit() afterwards raises."""

    async def main() -> None:
        made = writer(tmp_path / "s.db")
        futures = [made.submit(lambda d: d.put_all([Put("a", b"1", None, None, 0.0)])) for _ in range(50)]
        made.stop()
        assert await asyncio.gather(*futures) == [[version] for version in range(1, 51)]
        with pytest.raises(StoreError, match="closed"):
            made.submit(lambda d: None)
        assert made.join(10)

    asyncio.run(main())


def test_answers_to_a_closed_loop_are_dropped(tmp_path: Path) -> None:
    """A loop that ended while its job waited does not stop the thread."""
    made = writer(tmp_path / "s.db")
    gate, began = threading.Event(), threading.Event()

    def slow(database: Database) -> None:
        began.set()
        gate.wait(10)

    async def leave() -> None:
        made.submit(slow)
        await asyncio.to_thread(began.wait, 10)

    asyncio.run(leave())
    gate.set()

    async def later() -> None:
        assert await made.submit(lambda d: d.keys("")) == []
        made.stop()

    asyncio.run(later())
    assert made.join(10)


def test_the_queue_is_bounded_in_bytes_but_takes_one_of_any_size(tmp_path: Path) -> None:
    """Beyond the bound submit refuses at once; a single large write is not locked out for ever."""

    async def main() -> None:
        made = writer(tmp_path / "s.db", max_pending_bytes=100)
        await made.submit(lambda d: None, 1_000)
        gate, began = threading.Event(), threading.Event()
        first = made.submit(lambda d: (began.set(), gate.wait(10)), 10)
        await asyncio.to_thread(began.wait, 10)
        second = made.submit(lambda d: None, 90)
        with pytest.raises(LanewayError, match="too slow"):
            made.submit(lambda d: None, 90)
        gate.set()
        await asyncio.gather(first, second)
        made.stop()
        assert made.join(10)

    asyncio.run(main())
