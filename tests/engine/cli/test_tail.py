"""`laneway tail`."""

from __future__ import annotations

import asyncio
import json

from typer.testing import CliRunner

from laneway.engine.cli.root import app
from laneway.engine.client import Client


async def _one_run(target: str) -> str:
    async with asyncio.timeout(20), Client(target, session="tailed") as client:
        receipt = await client.send("hello")
        async for event in client:
            if event.ends_run:
                return receipt.run
    raise AssertionError


def test_what_passed_is_shown_and_filtered(served: str, runner: CliRunner) -> None:
    """One line an event; `--json` is for programs; bodies are never shown."""
    run = asyncio.run(_one_run(served))
    lines = runner.invoke(app, ["tail", "--once", "--grpc", served, "--session", "tailed"]).output.splitlines()
    assert any("-> USER_MESSAGE" in line and run in line for line in lines)
    assert any("<- RUN_FINISHED" in line and run in line for line in lines)
    assert "hello" not in "".join(lines)
    rows = runner.invoke(app, ["tail", "--once", "--json", "--grpc", served, "--kind", "RUN_FINISHED"]).output
    assert run in [json.loads(line)["run"] for line in rows.splitlines()]
