"""SIGTERM of a server under load."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from laneway.engine.client import Client
from laneway.engine.client_outbox import Receipt
from laneway.engine.codec import unpack_body
from laneway.routing.envelope import envelope_id
from laneway.routing.errors import LanewayError
from tests.e2e.serving import Server, logged

SENT = 40


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_ends_every_run_and_exits_0(tmp_path: Path, number: int) -> None:
    """Runs finish or end with DRAINED, what was acknowledged is in the log, all within the deadline."""
    store = tmp_path / "engine.db"

    async def main() -> None:
        receipts: list[Receipt] = []
        async with (
            asyncio.timeout(100),
            Server(store, "--drain-s", "1") as server,
            Client(server.target, session="s1") as client,
        ):
            sending = asyncio.create_task(_send(client, receipts))
            async for event in client:
                if event.kind == "TEXT_MESSAGE_CONTENT" and len(receipts) >= SENT:
                    break
            code, took_s = await server.stop(number)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        assert code == 0, server.errors
        assert took_s < 30  # the deadline, the pools' grace, the writing, on a busy machine; without one it is for ever
        await _check(store, receipts)

    asyncio.run(main())


async def _send(client: Client, receipts: list[Receipt]) -> None:
    """Send until the engine refuses."""
    try:
        while True:
            receipts.append(await client.send(f"question {len(receipts)}"))
    except LanewayError:
        return


async def _check(store: Path, receipts: list[Receipt]) -> None:
    accepted, numbered = await logged(store, "s1")
    assert len(receipts) >= SENT
    assert {receipt.id for receipt in receipts} <= {envelope_id(env) for env in accepted}
    ends = [env for env in numbered if env[2] in ("RUN_FINISHED", "RUN_ERROR")]
    runs = Counter(env[5] for env in ends)
    assert set(runs) == {env[5] for env in accepted if env[2] == "USER_MESSAGE"}
    assert set(runs.values()) == {1}
    codes = {unpack_body(env[11])["code"] for env in ends if env[2] == "RUN_ERROR"}
    assert codes == {"DRAINED"}


def test_an_idle_server_stops_at_once(tmp_path: Path) -> None:
    """A client that stays connected does not hold the server up until the deadline."""

    async def main() -> None:
        async with asyncio.timeout(110), Server(tmp_path / "engine.db", "--drain-s", "60") as server:
            async with Client(server.target, session="s1") as client:
                receipt = await client.send("hello")
                async for event in client:
                    if event.ends_run:
                        break
                code, took_s = await server.stop()
            assert receipt.status == "durable"
            assert code == 0, server.errors
            assert took_s < 60

    asyncio.run(main())
