"""What hosts of other nodes run: it tells where it ran."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from laneway import Context, Engine, EnvelopeView, Out
from laneway.actors.nlp import vocabulary

_GAP_S = 0.01
_TURN_S = 0.02


def place() -> str:
    """Process and node of Ray, as JSON."""
    import ray

    return json.dumps({"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id()})


async def where(event: EnvelopeView, context: Context) -> Out:
    """Tell where; with a path for a body, once that file is there."""
    path = Path(event.body.decode() or "/")
    await asyncio.sleep(_TURN_S)  # so that others come meanwhile
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes the file, and looking takes no time
        await asyncio.sleep(_TURN_S)
    return Out("CUSTOM", place().encode(), event.entity)


class Reciter:
    """A model that says where it runs, then counts to the number it was told, always in the same words."""

    provider, name = "laneway", "reciter"

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Yield one message."""
        most = int(run["messages"][-1]["content"])
        message = str(run.get("runId", "m"))
        yield vocabulary.text_start(message)
        yield vocabulary.text(message, place())
        for number in range(most):
            await asyncio.sleep(_GAP_S)
            yield vocabulary.text(message, f" number {number}")
        yield vocabulary.text_end(message)


def fill(engine: Engine) -> None:
    """Two pools on two hosts each; one may have a third."""
    engine.pool("where", ["WHERE"], "tests.e2e.afar:where", concurrency=2, hosts=2, max_hosts=3)
    engine.pool("keyed", ["KEYED"], "tests.e2e.afar:where", keyed="entity", hosts=2)
