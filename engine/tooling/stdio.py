"""The pipe to a stdio MCP server, watched: its end is noticed at once, its log is kept short.

Law of this file: the SDK starts, talks to and stops the process; this adds two things it lacks: an
event when the server's output ends (an idle client would learn it only from its next failed call),
and a bounded place for stderr, which would otherwise go to the terminal of whoever runs the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import anyio
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

__all__ = ["ServerLog", "watched_stdio"]

_TAIL_BYTES: Final = 4096
_READ_BYTES: Final = 65_536


class ServerLog:
    """The last 4 KiB of what a server wrote to stderr; a context manager on the event loop."""

    def __init__(self) -> None:
        self._kept = b""
        self._source = -1
        self.sink: TextIO

    def __enter__(self) -> ServerLog:
        self._source, into = os.pipe()
        os.set_blocking(self._source, False)
        self.sink = os.fdopen(into, "w", encoding="utf-8")
        asyncio.get_running_loop().add_reader(self._source, self._read)
        return self

    def __exit__(self, *exc: object) -> None:
        self._read()
        asyncio.get_running_loop().remove_reader(self._source)
        self.sink.close()
        os.close(self._source)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._kept = (self._kept + os.read(self._source, _READ_BYTES))[-_TAIL_BYTES:]

    def tail(self) -> str:
        """The end of the log, for messages."""
        self._read()
        return self._kept.decode(errors="replace").strip()[-1000:]


@asynccontextmanager
async def watched_stdio(
    command: str,
    args: Sequence[str],
    env: Mapping[str, str],
    cwd: Path | None,
    log: ServerLog,
    gone: asyncio.Event,
) -> AsyncIterator[tuple[Any, Any]]:
    """A transport for `mcp.Client`: the server's streams; sets `gone` when its output ends."""
    parameters = StdioServerParameters(command=command, args=list(args), env=dict(env), cwd=cwd)
    async with stdio_client(parameters, errlog=log.sink) as (read, write):
        into, out = anyio.create_memory_object_stream[Any](0)

        async def forward() -> None:
            try:
                async with into:
                    async for message in read:
                        await into.send(message)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return  # the session left first
            finally:
                gone.set()

        async with anyio.create_task_group() as group:
            group.start_soon(forward)
            try:
                yield out, write
            finally:
                group.cancel_scope.cancel()
                out.close()
