"""What is fetched once and kept for the next start: where it lies, and who may write there.

Law of this file: one directory for everything that can be fetched again, chosen by the operator or
by the platform's rule; one writer at a time, by a lock that the operating system drops when its
holder dies, so that nothing stale is ever cleaned up by guess.

Source: XDG Base Directory Specification 0.8; relative paths in its variables are ignored, as it asks.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from laneway.routing.errors import ConfigError

__all__ = ["cache_directory", "exclusive"]

_POLL_S: Final = 0.1


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return LANEWAY_CACHE, or the platform's cache directory for laneway; it may not exist yet.

    Raises ConfigError if LANEWAY_CACHE is not an absolute path.
    """
    if chosen := environ.get("LANEWAY_CACHE"):
        if not Path(chosen).is_absolute():
            raise ConfigError(f"LANEWAY_CACHE={chosen!r} must be an absolute path")
        return Path(chosen)
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "laneway" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "laneway"
    base = environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "laneway"


@asynccontextmanager
async def exclusive(path: Path, timeout_s: float) -> AsyncIterator[None]:
    """Hold the lock on `path` (made if absent, never removed) while inside.

    Polls, because a blocking flock cannot be cancelled. Raises TimeoutError if it was not free
    within `timeout_s` seconds, OSError if the file cannot be opened.
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
