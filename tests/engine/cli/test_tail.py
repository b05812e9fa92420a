"""`laneway tail`."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from laneway.engine.cli.root import app
from laneway.engine.client import Client
from tests.e2e.serving import COMMAND, Server, clean_environment

WITHIN_S = 60.0


async def _one_run(target: str, session: str = "tailed") -> str:
    async with asyncio.timeout(60), Client(target, session=session) as client:
        receipt = await client.send("hello")
        async for event in client:
            if event.ends_run:
                return receipt.run
    raise AssertionError


def _rows(runner: CliRunner, target: str, *options: str) -> list[dict[str, Any]]:
    result = runner.invoke(app, ["tail", "--once", "--json", "--grpc", target, *options])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_what_passed_is_shown_and_filtered(served: str, runner: CliRunner) -> None:
    """One line an event; `--json` is for programs; bodies are never shown."""
    run = asyncio.run(_one_run(served))
    lines = runner.invoke(app, ["tail", "--once", "--grpc", served, "--session", "tailed"]).output.splitlines()
    assert any("-> USER_MESSAGE" in line and run in line for line in lines)
    assert any("<- RUN_FINISHED" in line and run in line for line in lines)
    assert "hello" not in "".join(lines)
    rows = _rows(runner, served, "--kind", "RUN_FINISHED")
    assert run in [row["run"] for row in rows]


def test_every_filter_keeps_what_it_says(served: str, runner: CliRunner) -> None:
    """And nothing else; together they all must fit."""
    run = asyncio.run(_one_run(served, "filtered"))
    asyncio.run(_one_run(served, "other"))
    checks: list[tuple[list[str], Callable[[dict[str, Any]], bool]]] = [
        (
            ["--kind", "RUN_STARTED", "--kind", "RUN_FINISHED"],
            lambda row: row["kind"] in ("RUN_STARTED", "RUN_FINISHED"),
        ),
        (["--kind", "TEXT_*"], lambda row: row["kind"].startswith("TEXT_")),
        (["--session", "filtered"], lambda row: row["session"] == "filtered"),
        (["--run", run], lambda row: row["run"] == run),
        (["--tenant", "default"], lambda row: row["tenant"] == "default"),
        (["--lane", "high"], lambda row: row["lane"] == "high"),
        (["--direction", "in"], lambda row: row["direction"] == "in"),
        (["--min-bytes", "5"], lambda row: row["bytes"] >= 5),
        (["--session", "filtered", "--direction", "in"], lambda row: row["kind"] == "USER_MESSAGE"),
    ]
    for options, fits in checks:
        rows = _rows(runner, served, *options)
        assert rows, options
        assert all(fits(row) for row in rows), options
    assert _rows(runner, served, "--tenant", "nobody") == []


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--lane", "urgent"], "critical, high, normal, low"), (["--direction", "up"], "in or out")],
)
def test_a_name_that_does_not_exist_is_an_error(served: str, runner: CliRunner, options: list[str], says: str) -> None:
    """Better than an empty answer."""
    result = runner.invoke(app, ["tail", "--once", "--grpc", served, *options])
    assert result.exit_code == 1
    assert says in result.stderr


@asynccontextmanager
async def _following(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "tail", *options, stdout=asyncio.subprocess.PIPE, env=clean_environment(PYTHONUNBUFFERED="1")
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        process.kill()
        await process.wait()


async def _until(lines: asyncio.StreamReader, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    while line := await lines.readline():
        row: dict[str, Any] = json.loads(line)
        if fits(row):
            return row
    raise AssertionError("the tail ended")


def test_following_outlives_the_server(tmp_path: Path) -> None:
    """It says that the engine is away, that it was started anew, and goes on with all its events."""

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S):
            async with Server("memory", model="scripted", cwd=tmp_path) as server:
                target = server.target
                await _one_run(target)
                async with _following("--json", "--grpc", target, "--kind", "RUN_FINISHED") as (_, lines):
                    await _until(lines, lambda row: row.get("kind") == "RUN_FINISHED")
                    await server.stop()
                    assert (await _until(lines, lambda row: "notice" in row))["notice"] == "away"
                    async with Server("memory", "--grpc", target, model="scripted", cwd=tmp_path) as again:
                        run = await _one_run(again.target)
                        assert (await _until(lines, lambda row: "notice" in row))["notice"] == "restarted"
                        assert (await _until(lines, lambda row: "run" in row))["run"] == run

    asyncio.run(main())


def test_a_reader_that_is_overtaken_says_so(tmp_path: Path) -> None:
    """Stopped while more passes than the ring holds: what it shows and what it missed leave no gap."""
    (tmp_path / "fast.toml").write_text("[dispatch]\nrate_per_s = 100000\nburst = 100000\n")

    async def main() -> None:
        async with (
            asyncio.timeout(WITHIN_S),
            Server("memory", "--config", "fast.toml", model="scripted", cwd=tmp_path) as server,
            Client(server.target, session="flood") as client,
        ):
            await client.publish("topic:nobody", b"first")
            async with _following("--json", "--grpc", server.target) as (process, lines):
                before = (await _until(lines, lambda row: row["kind"] == "PUBLISH"))["n"]
                process.send_signal(signal.SIGSTOP)
                for _ in range(25):
                    await asyncio.gather(*(client.publish("topic:nobody", b"x") for _ in range(100)))
                process.send_signal(signal.SIGCONT)
                notice = json.loads(await lines.readline())
                while "notice" not in notice:  # what it had fetched before it was stopped
                    before, notice = notice["n"], json.loads(await lines.readline())
                assert notice["notice"] == "missed"
                assert json.loads(await lines.readline())["n"] == before + notice["missed"] + 1

    asyncio.run(main())
