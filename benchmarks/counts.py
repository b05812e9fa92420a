"""What the engine itself says that its stages did, to hold against what was sent.

Law of this file: figures of the engine's own statistics, in this process or asked for over the wire;
nothing is derived from what the client sees.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from laneway import Client, Engine
from laneway.actors.pools.gauges import fields_of

__all__ = ["Counts", "Lost", "engine_counts", "no_stages", "remote_counts", "require"]

_SETTLE_S: Final = 5.0
_WAITS: Final = "queue.wait"
"""The histogram of times from acceptance to the start of the handler: one entry for each event that left a queue."""

Counts = Callable[[], Awaitable[Mapping[str, int]]]
"""How many events each stage has counted since the opening; empty if the row has no stages."""


class Lost(RuntimeError):
    """Events are missing, or came twice, or came back as something else."""


async def no_stages() -> Mapping[str, int]:
    """Return nothing: a queue counts nothing."""
    return {}


async def engine_counts(engine: Engine, *, sessions: bool = True) -> Mapping[str, int]:
    """Return what dispatcher and (where each event has one result) sessions of this engine have counted so far."""
    dispatcher, directory = engine.statistics()
    counters = engine.telemetry.counters.snapshot()
    return _stages(fields_of(dispatcher), fields_of(directory) if sessions else {}, counters)


async def remote_counts(client: Client, *, sessions: bool = True) -> Mapping[str, int]:
    """Ask an engine in another process for the same."""
    status = await client.call("status")
    return _stages(status["dispatcher"], status["sessions"] if sessions else {}, status["counters"])


def _stages(
    dispatcher: Mapping[str, Any], sessions: Mapping[str, Any], counters: Mapping[str, Any]
) -> Mapping[str, int]:
    found = {
        "admitted": dispatcher["accepted"],
        "queued": sum(waits["count"] for name, waits in counters.items() if name.startswith(_WAITS)),
        "handled": dispatcher["handled"],
    }
    if sessions:
        found["numbered"] = sessions["issued"]
    return found


async def require(row: str, counts: Counts, count: int, before: Mapping[str, int]) -> None:
    """Raise Lost unless every stage counted `count` events since `before`.

    Books are closed right after a result has left, so they are given a moment.
    """
    until = time.monotonic() + _SETTLE_S
    while True:
        counted = {stage: seen - before.get(stage, 0) for stage, seen in (await counts()).items()}
        if all(seen == count for seen in counted.values()):
            return
        if time.monotonic() > until:
            raise Lost(f"{row}: {count} events were sent, but the stages counted {counted}")
        await asyncio.sleep(0.01)
