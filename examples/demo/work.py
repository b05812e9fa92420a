"""What the demo's engine is told to do: kinds of work, their handler, and a tool.

All of it is at module level, so that hosts in other processes import it by name.
"""

from __future__ import annotations

import asyncio

from laneway import Context, EnvelopeView, Kind, Lane, Out

CAPACITY_PER_S = 500
"""What the `work` pool can do: 2 at a time, 4 ms each."""
SLOTS = 2
_SERVICE_S = 0.004

WORK_KINDS = (
    Kind("ALERT", Lane.CRITICAL, direction="in"),
    Kind("ORDER", Lane.HIGH, direction="in"),
    Kind("JOB", Lane.NORMAL, direction="in"),
    Kind("HINT", Lane.LOW, direction="in", durable=False),
)


async def work(event: EnvelopeView, context: Context) -> Out:
    """Take a while, and send back what came."""
    await asyncio.sleep(_SERVICE_S)
    return Out("CUSTOM", event.body, event.entity)


async def word_count(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())
