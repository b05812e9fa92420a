"""Waiting for a call to an actor; finding actors is in test_ray_cluster.py."""

from __future__ import annotations

import asyncio
import concurrent.futures

import pytest

from laneway.engine.runtime.named_actor import _answer


class Reference:
    """Stands for an ObjectRef: what its `future` gives."""

    def __init__(self) -> None:
        self.theirs: concurrent.futures.Future[object] = concurrent.futures.Future()

    def future(self) -> concurrent.futures.Future[object]:
        return self.theirs


def test_an_answer_and_an_error_come_as_they_are() -> None:
    """From whatever thread."""

    async def main() -> None:
        good, bad = Reference(), Reference()
        waits = [asyncio.ensure_future(_answer(reference)) for reference in (good, bad)]
        await asyncio.sleep(0)
        await asyncio.to_thread(good.theirs.set_result, 7)
        await asyncio.to_thread(bad.theirs.set_exception, ValueError("no"))
        assert await waits[0] == 7
        with pytest.raises(ValueError, match="no"):
            await waits[1]

    asyncio.run(main())


def test_who_stops_waiting_leaves_the_call_alone() -> None:
    """Its answer may still come, also after the loop is closed."""
    late, later = Reference(), Reference()

    async def main() -> None:
        for reference in (late, later):
            wait = asyncio.ensure_future(_answer(reference))
            await asyncio.sleep(0)
            wait.cancel()
            await asyncio.wait({wait})
            assert not reference.theirs.cancelled()
        late.theirs.set_result(1)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    later.theirs.set_result(1)
