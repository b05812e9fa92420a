"""Handlers, a tool and a model that tell in which process they run; for tests with hosts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from laneway import Context, EnvelopeView, Out
from laneway.engine.models.synthetic import SyntheticModel
from laneway.routing.errors import ModelFailed


async def here(event: EnvelopeView, context: Context) -> Out:
    """Say which process handled it."""
    return Out("CUSTOM", str(os.getpid()).encode(), event.entity)


async def who(event: EnvelopeView, context: Context) -> Out:
    """Say whose event it is."""
    return Out("CUSTOM", context.principal.tenant.encode(), event.entity)


async def hold(event: EnvelopeView, context: Context) -> Out:
    """Take until the file named by the body is there."""
    path = Path(event.body.decode())
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes the file, and looking takes no time
        await asyncio.sleep(0.01)
    return Out("CUSTOM", str(os.getpid()).encode(), event.entity)


async def where() -> int:
    """Say which process runs this tool."""
    return os.getpid()


async def strike(path: str) -> str:
    """Leave a mark in a file, and lose the process before anybody hears of it."""
    with open(path, "a") as marks:  # noqa: ASYNC230 - a line
        marks.write("struck\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never said"


class Talker(SyntheticModel):
    """Says its process and then goes on without an end, if it is asked to."""

    def __init__(self) -> None:
        super().__init__(tokens_per_s=0)

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Yield an endless message for "go on", else what a synthetic model says."""
        if run["messages"][-1]["content"] != "go on":
            async for out in super().stream(run, context):
                yield out
            return
        yield Out("TEXT_MESSAGE_START", b"\x81\xa4role\xa9assistant", "m")
        yield Out("TEXT_MESSAGE_CONTENT", str(os.getpid()).encode(), "m")
        await asyncio.Event().wait()


class Loader(Talker):
    """Takes its weights from somewhere before it can speak."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = asyncio.Event()

    async def open(self) -> None:
        """Load, and fail at the end of it."""
        self.loaded.set()
        raise ModelFailed("the weights are gone")
