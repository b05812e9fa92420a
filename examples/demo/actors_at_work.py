"""Starts the client processes, all at once, and collects the one JSON line that each prints."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.progress import Progress

from examples.demo.hosts import Loss
from examples.demo.stage import Stage

_DEADLINE_S = 240.0
_SETTLE_S = 30.0

ROLES = {
    "chat-1": "chat on the model",
    "chat-2": "chat on the model",
    "tools": "tool calls (MCP, Python, by the model)",
    "editor-1": "edits the document (pycrdt)",
    "editor-2": "edits the document (raw Yjs frames)",
    "flood": "floods one session, 3x capacity",
    "lanes": "measures every lane meanwhile",
    "interrupt": "interrupts in mid-generation",
    "steady": "reads a run undisturbed",
    "cut": "reads the same run, cut and resumed",
}


ENCORE = {"retry": "asks again what a lost host left unanswered"}
"""On Ray, when the others have ended: all runs of the model end with its host."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays on which stage."""

    stage: Stage
    progress: Progress


async def run_cast(cast: Cast) -> tuple[dict[str, Mapping[str, Any]], Sequence[Loss]]:
    """Run every client process to its end; returns role -> its result ({"error": ...} if it failed), and lost hosts."""
    if not cast.stage.on_hosts:
        return await _together(cast, ROLES), ()
    playing, worker = await _meanwhile(_together(cast, ROLES), cast.stage.lose_worker())
    retrying, model = await _meanwhile(_together(cast, ENCORE), cast.stage.lose_model("retry"))
    return {**playing, **retrying}, [*worker, *model]


async def _meanwhile(
    playing: Coroutine[Any, Any, dict[str, Mapping[str, Any]]], losing: Coroutine[Any, Any, Loss]
) -> tuple[dict[str, Mapping[str, Any]], Sequence[Loss]]:
    """Lose a host while clients play; it must be over soon after them."""
    loss = asyncio.create_task(losing)
    try:
        results = await playing
        await asyncio.wait({loss}, timeout=_SETTLE_S)
    finally:
        loss.cancel()
        await asyncio.gather(loss, return_exceptions=True)
    return results, () if loss.cancelled() else (loss.result(),)


async def _together(cast: Cast, roles: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
    async with asyncio.TaskGroup() as group:
        tasks = {role: group.create_task(_play(cast, role, does)) for role, does in roles.items()}
    return {role: task.result() for role, task in tasks.items()}


async def _play(cast: Cast, role: str, does: str) -> Mapping[str, Any]:
    bar = cast.progress.add_task(f"{role}: {does}", total=None, note="")
    result = await _process(cast.stage, role)
    failed = "error" in result
    cast.progress.update(bar, total=1, completed=0 if failed else 1, note="[red]failed" if failed else "")
    if not cast.progress.console.is_terminal:  # a log has no bars
        cast.progress.console.print(f"{'failed' if failed else 'done'}: {role}, {does}")
    return result


async def _process(stage: Stage, role: str) -> Mapping[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "examples.demo.clients",
        role,
        "--target",
        stage.target(role),
        *stage.steering(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_DEADLINE_S):
            out, err = await process.communicate()
    except TimeoutError:
        return {"error": f"{role} did not end within {_DEADLINE_S:g} s"}
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        return {"error": f"{role} ended with {process.returncode}: {err.decode(errors='replace').strip()[-1500:]}"}
    result: Mapping[str, Any] = json.loads(out.splitlines()[-1])
    return result
