"""The server's log: kept short, never in the way."""

from __future__ import annotations

import asyncio

from laneway.engine.tooling.stdio import ServerLog


def test_only_the_end_of_a_log_is_kept() -> None:
    """A server may write for ever: the pipe is drained and at most 1,000 characters of it are told."""

    async def main() -> None:
        with ServerLog() as log:
            for _ in range(64):
                log.sink.write("x" * 8192)
                log.sink.flush()
                await asyncio.sleep(0)
            log.sink.write("\nlast words\n")
            log.sink.flush()
            assert log.tail().endswith("last words")
            assert len(log.tail()) <= 1000

    asyncio.run(main())
