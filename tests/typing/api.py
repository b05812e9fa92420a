"""A user's program, for the type checkers only: it is checked, never run.

`assert_type` pins what the user sees; each `type: ignore[...]` is a misuse that must be reported
(a checker complains about an ignore that ignores nothing).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, assert_type

from laneway import (
    Client,
    Config,
    Context,
    Engine,
    EnvelopeView,
    Kind,
    Lane,
    LanewayError,
    Model,
    Out,
    Principal,
    Store,
    ToolResult,
)
from laneway.engine.app.embedded import EmbeddedSession
from laneway.engine.client_outbox import Receipt
from laneway.engine.delivery import Event
from laneway.engine.stores.memory import MemoryStore
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.errors import RateLimited


class Echo:
    """A model by structure, without a base class."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        result = await context.call_tool("weather", {"city": "Oslo"})
        assert_type(result, ToolResult)
        assert_type(context.principal, Principal)
        yield Out("TEXT_MESSAGE_START", entity="m1")
        yield Out("TEXT_MESSAGE_CONTENT", result.content.encode(), "m1")
        yield Out("TEXT_MESSAGE_END", entity="m1")


async def thumbnail(event: EnvelopeView, context: Context) -> Out:
    assert_type(event.body, bytes)
    assert_type(event.lane, Lane)
    await context.emit(Out("PROGRESS", b"half"))
    return Out("CUSTOM", event.body)


async def embedded() -> None:
    model: Model = Echo()
    store: Store = MemoryStore()
    durable: Store = SqliteStore(Path("laneway.db"))
    config = Config.load("laneway.toml", overrides={"store": {"url": "memory"}})
    assert_type(config.dispatch.rate_per_s, float)
    async with Engine(config, store=store, kinds=[Kind("IMAGE_UPLOADED", Lane.LOW)]) as engine:
        assert_type(engine, Engine)
        engine.nlp.use(model)
        engine.pool("thumbnails", ["IMAGE_UPLOADED"], thumbnail, concurrency=4)

        @engine.tools.add
        async def weather(city: str) -> str:
            return f"sunny in {city}"

        assert_type(await weather("Oslo"), str)
        async with engine.session("s1", user="ada") as session:
            assert_type(session, EmbeddedSession)
            receipt = await session.send("Hello?")
            assert_type(receipt, Receipt)
            assert_type(receipt.run, str)
            async for event in session.ask("And now?"):
                assert_type(event, Event)
                assert_type(event.text, str)
        await engine.publish("user:ada", b"ping")
    async with Engine(store="laneway.db") as second:
        assert_type(second.store, Store)
    await durable.close()


async def remote() -> None:
    try:
        async with Client("127.0.0.1:7700", session="s1") as client:
            await client.send("Hello?")
            async for event in client:
                print(event.data["type"], event.ends_run)
            assert_type(await client.call_tool("weather", {"city": "Oslo"}), Mapping[str, Any])
    except RateLimited as error:
        assert_type(error.retry_after_ms, int | None)
    except LanewayError as error:
        assert_type(error.code, str)
        assert_type(error.retryable, bool)


async def misused(engine: Engine, client: Client) -> None:
    await client.send(b"bytes")  # type: ignore[arg-type]
    await engine.publish("user:ada", "text")  # type: ignore[arg-type]
    engine.session(1)  # type: ignore[arg-type]
    Engine(store=42)  # type: ignore[arg-type]
    Out(b"CUSTOM")  # type: ignore[arg-type]
    Engine.serve()  # type: ignore[attr-defined]
    wrong: Store = Echo()  # type: ignore[assignment]
    print(wrong)
