"""`laneway dlq`, on a store that holds dead letters."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner

from laneway.actors.ports import DeadLetter
from laneway.engine.cli.root import app
from laneway.engine.codec import pack_envelope
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.classify import KindTable
from laneway.routing.envelope import envelope
from tests.e2e.serving import Server


async def _bury(path: Path, letters: int) -> None:
    store = SqliteStore(path)
    await store.open()
    for counter in range(1, letters + 1):
        env = envelope(
            "PUBLISH", producer="p", counter=counter, tenant="default", session="s1", lane=2, entity="tenant"
        )
        packed = pack_envelope(env, 0.0, KindTable())
        await store.bury(DeadLetter(0, "default", "s1", "POISON", "the process died", 3, packed, 1.7e9))
    await store.close()


def test_letters_are_listed_dropped_and_redriven(tmp_path: Path, runner: CliRunner) -> None:
    """By the numbers that `list` shows."""

    async def main() -> None:
        await _bury(tmp_path / "engine.db", 3)
        async with asyncio.timeout(60), Server(tmp_path / "engine.db") as server:

            def ask(*arguments: str) -> str:
                result = runner.invoke(app, ["dlq", *arguments, "--grpc", server.target])
                assert result.exit_code == 0, result.output
                return result.output

            table = await asyncio.to_thread(ask, "list")
            assert table.count("POISON") == 3
            ids = [row["id"] for row in json.loads(await asyncio.to_thread(ask, "list", "--json"))]
            assert "POISON" in await asyncio.to_thread(ask, "drop", str(ids[0]))
            await asyncio.to_thread(ask, "redrive", str(ids[1]), str(ids[2]))
            assert "no dead letters" in await asyncio.to_thread(ask, "list")

    asyncio.run(main())
