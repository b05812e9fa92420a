"""What the pool hosts run while faults are made: jobs, a tool and a model whose deeds are written down by themselves.

Law of this file: a deed is a line, appended with one write to a file named by CHAOS_LEDGER, by whoever does
it, when it begins and when it is done; nobody else's word counts. Times are CLOCK_MONOTONIC's, which all
processes of a machine share.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from laneway import Context, Engine, EnvelopeView, Out
from laneway.routing.envelope import envelope_id
from tests.simulation.script import script

__all__ = ["LEDGER", "Scripted", "job", "set_up", "weather", "write"]

LEDGER: Final = "CHAOS_LEDGER"
_JOB_S: Final = 0.02
_STEP_S: Final = 0.02
_TOOL_S: Final = 0.05


def write(what: str, key: str) -> None:
    """Append one deed."""
    line = f"{what} {key} {os.getpid()} {time.monotonic():.6f}\n".encode()
    file = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


async def job(event: EnvelopeView, context: Context) -> Out:
    """Do it, and say so."""
    write("job-begun", envelope_id(event.raw))
    await asyncio.sleep(_JOB_S)
    write("job-done", envelope_id(event.raw))
    return Out("CUSTOM", event.body, event.entity)


async def weather(of: str) -> str:
    """A tool whose effect must not happen twice."""
    write("tool-begun", of)
    await asyncio.sleep(_TOOL_S)
    write("tool-done", of)
    return f"fair, for {of}"


class Scripted:
    """A model that says what the simulation's says, a pure function of the run's id, at a steady pace."""

    provider, name = "chaos", "scripted"

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Play the run."""
        for step in script(str(run["runId"])):
            await asyncio.sleep(_STEP_S)
            if step.out is not None:
                yield step.out
            elif step.tool:
                await context.call_tool("weather", {"of": step.tool}, step.tool)
            else:
                raise RuntimeError("the model broke off (scripted)")


def set_up(engine: Engine) -> None:
    """Tell an engine of them: `laneway serve --setup tests.chaos.work:set_up`."""
    engine.tools.add(weather, effects=True, idempotent=False)
    engine.pool("work", ["JOB"], job, concurrency=4, keyed="session")
