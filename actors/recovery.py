"""Going through what a former process left in a store: some sessions at a time, and all of them.

Law of this file: one session that cannot be taken up keeps nothing from the others that are under way;
a store that fails ends it all, and whoever starts again begins with the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

__all__ = ["recover"]


async def recover(
    keys: Sequence[str],
    take_up: Callable[[str], Awaitable[bool]],
    at_once: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Take up each, at most `at_once` side by side; returns for how many `take_up` was true.

    Args:
        progress: called with (done, total) after each.

    Raises what `take_up` raises, once those that are under way have ended. O(keys).
    """
    waiting = iter(keys)
    done = busy = 0

    async def work() -> None:
        nonlocal done, busy
        for key in waiting:
            found = await take_up(key)  # apart: `busy` may have grown meanwhile
            busy += found
            done += 1
            if progress is not None:
                progress(done, len(keys))

    workers = [asyncio.get_running_loop().create_task(work(), name="recovery") for _ in range(min(at_once, len(keys)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return busy
