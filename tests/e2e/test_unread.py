"""A client that stops reading, over real sockets, and a model server in another process that does not care."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from laneway.actors.sessions.session import SessionHome
from laneway.engine.app.engine import Engine
from laneway.engine.client import Client
from laneway.engine.config import Config, NlpConfig, SessionConfig
from laneway.engine.delivery import Event
from laneway.engine.models.openai import OpenAIModel
from tests.e2e.upstream import Upstream, tale

WORDS = 1_000
RING_BYTES = 32_768
BUDGET_BYTES = 8_192
_END_S = 110.0


@asynccontextmanager
async def _engine(upstream: Upstream, store: Path, unread: str) -> AsyncIterator[tuple[Engine, str]]:
    """An engine over that server, with small bounds; and where its gRPC edge listens."""
    session = SessionConfig(ring_bytes=RING_BYTES, budget_bytes=BUDGET_BYTES)
    config = Config(session=session, nlp=NlpConfig(unread=unread))  # type: ignore[arg-type]
    async with asyncio.timeout(_END_S), Engine(config, store=store / "log.sqlite") as engine:
        engine.nlp.use(OpenAIModel(upstream.url))
        edge = await engine.serve_grpc()
        yield engine, f"127.0.0.1:{edge.port}"


async def _read(client: Client, run: str) -> tuple[str, Event]:
    """Everything that a run says, and its end."""
    text = ""
    async for event in client:
        if event.run == run:
            text += event.text if event.kind == "TEXT_MESSAGE_CONTENT" else ""
            if event.ends_run:
                return text, event
    raise AssertionError("the client ended before the run did")


async def _parts(client: Client, run: str) -> list[str]:
    """What a run says, and each that goes on where the one before was closed: a busy machine reads late, too."""
    parts: list[str] = []
    while True:
        text, end = await _read(client, run)
        parts.append(text)
        if end.kind == "RUN_FINISHED":
            return parts
        error = end.data
        assert (error["code"], error["metadata"]["retryable"]) == ("PAUSED", True)
        run, parent = f"r{len(parts)}", run
        await client.send_event("RUN_INPUT", json.dumps({"parentRunId": parent}).encode(), run=run)


def _home(engine: Engine, session: str) -> SessionHome:
    home = engine.directory.find("default", session)
    assert home is not None
    return home


def test_continue_a_run_is_done_before_anybody_reads_it_and_nothing_is_lost(tmp_path: Path) -> None:
    """The server's slot is free as soon as it is done; the engine holds no more than its rings; the log has it all."""

    async def main() -> None:
        async with (
            Upstream(WORDS) as upstream,
            _engine(upstream, tmp_path, "auto") as (engine, target),
            Client(target, session="s") as client,
        ):
            receipt = await client.send("tell")
            await upstream.reaches(served=1, active=0)
            home = _home(engine, "s")
            while home.statistics().pending:  # noqa: ASYNC110 (a condition of the engine, not of this test)
                await asyncio.sleep(0.01)
            assert sum(ring.bytes for ring in home.outbound.rings) <= RING_BYTES + 1_000
            assert home.outbound.rings[1].head_position > len(tale(WORDS))
            text, end = await _read(client, receipt.run)
            assert (text, end.kind) == (tale(WORDS), "RUN_FINISHED")

    asyncio.run(main())


def test_close_frees_the_slot_at_once_and_a_new_run_goes_on(tmp_path: Path) -> None:
    """The server sees its connection closed and serves the next; the parts of the answer are the whole answer."""

    async def main() -> None:
        async with (
            Upstream(WORDS, slots=1) as upstream,
            _engine(upstream, tmp_path, "close") as (_, target),
            Client(target, session="s") as client,
            Client(target, session="other") as other,
        ):
            run = (await client.send("tell")).run
            told = await upstream.reaches(interrupted=1, active=0)
            assert told["served"] == 0
            assert told["said"] < WORDS
            receipt = await other.send("tell")  # the only slot is free again, though nobody reads the first run
            assert "".join(await _parts(other, receipt.run)) == tale(WORDS)
            parts = await _parts(client, run)
            assert len(parts) > 1
            assert "".join(parts) == tale(WORDS)

    asyncio.run(main())


def test_with_the_memory_store_an_unread_run_is_given_up_in_the_time_that_is_set() -> None:
    """There is no place to spill to: it waits a budget behind the reader's credit, then ends UNREAD."""

    async def main() -> None:
        config = Config(session=SessionConfig(budget_bytes=BUDGET_BYTES, stall_s=0.2))
        async with Upstream(4 * WORDS) as upstream, asyncio.timeout(_END_S), Engine(config) as engine:
            engine.nlp.use(OpenAIModel(upstream.url))
            async with engine.session("s") as session:
                run = (await session.send("tell")).run
                await upstream.reaches(interrupted=1, active=0)
                async for event in session:
                    if event.run == run and event.ends_run:
                        break
                assert (event.data["code"], event.data["metadata"]["reason"]) == ("SLOW_CONSUMER", "UNREAD")

    asyncio.run(main())
