"""Closing what embedders brought: their models and tools.

Law of this file: each gets its time, whatever the one before it did; one that hangs is left behind and
said so, since what comes after it (the store) must still be closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

__all__ = ["Closable", "close_patiently"]

_log: Final = logging.getLogger(__name__)
_CLOSE_S: Final = 15.0


class Closable(Protocol):
    """What has an end."""

    async def close(self) -> None:
        """End it."""
        ...


async def close_patiently(adapters: Mapping[str, Closable], within_s: float = _CLOSE_S) -> None:
    """Close these, in order.

    Args:
        adapters: by what they are called in the log. within_s: for each.
    """
    for name, adapter in adapters.items():
        try:
            async with asyncio.timeout(within_s):
                await adapter.close()
        except TimeoutError:
            _log.error("%s did not close within %g s and was left behind", name, within_s)
