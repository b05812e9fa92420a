"""An exclusive lock between processes that the operating system drops when its holder dies."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

__all__ = ["exclusive"]

_POLL_S: Final = 0.1


@asynccontextmanager
async def exclusive(path: Path, timeout_s: float) -> AsyncIterator[None]:
    """Hold the lock on `path` (made if absent, never removed) while inside.

    Polls, because a blocking flock cannot be cancelled. Raises TimeoutError, OSError.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        async with asyncio.timeout(timeout_s):
            while not _taken(handle):  # noqa: ASYNC110 - another process holds it; nothing here can be awaited
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _taken(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _taken(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
