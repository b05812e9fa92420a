"""The tool of W2: waits 5 ms and gives its number back.

Law of this file: one coroutine, the same in every row.
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["WAIT_S", "wait"]

WAIT_S: Final = 0.005


async def wait(number: int) -> int:
    """Wait 5 ms and return the number."""
    await asyncio.sleep(WAIT_S)
    return number
