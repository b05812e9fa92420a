"""The scripted server, through a real model client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from laneway.engine.models.endpoint import Endpoint
from laneway.engine.models.scripted import Answer, ScriptedModel, ScriptedServer
from laneway.routing.errors import ModelFailed

Asking = Callable[..., dict[str, Any]]


def test_the_obedient_script_echoes_and_calls(calling: Any, asking: Asking) -> None:
    """Text is echoed exactly; a call directive makes the call and repeats its result."""

    async def main() -> None:
        model = ScriptedModel()
        try:
            for asked, said in (
                ("hi there", "[SCRIPTED] you said: hi there"),
                ('call double {"x": 4}', "[SCRIPTED] the tool returned: 8"),
                ("call other", "[SCRIPTED] there is no tool other"),
            ):
                context = calling({"double": lambda x: 2 * x}, x="integer")
                outs = [out async for out in model.stream(asking(asked), context)]
                text = b"".join(out.body for out in outs if out.kind == "TEXT_MESSAGE_CONTENT").decode()
                assert text == said
            assert model.server.served == 4
        finally:
            await model.close()

    asyncio.run(main())


def test_an_interrupt_is_seen_by_the_server(calling: Any, asking: Asking) -> None:
    """Closing the model's iterator ends the answer in the server, within a bounded time."""

    async def main() -> None:
        model = ScriptedModel(lambda request: Answer("word " * 5_000, gap_s=0.001))
        try:
            outs = model.stream(asking("go"), calling())
            async for out in outs:
                if out.kind == "TEXT_MESSAGE_CONTENT":
                    break
            assert model.server.active == 1
            await outs.aclose()  # type: ignore[attr-defined]
            await model.server.idle(5.0)
            assert (model.server.interrupted, model.server.served) == (1, 0)
        finally:
            await model.close()

    asyncio.run(main())


def test_other_paths_and_closing() -> None:
    """Health and models answer, unknown paths are 404, and close is idempotent."""

    async def main() -> None:
        server = ScriptedServer()
        with pytest.raises(RuntimeError, match="not open"):
            _ = server.url
        async with server:
            root = Endpoint(server.url.removesuffix("/v1"))
            assert await root.get_json("/health") == {"status": "ok"}
            assert (await root.get_json("/v1/models"))["data"][0]["id"] == "laneway-scripted"
            with pytest.raises(ModelFailed, match="no such path"):
                await root.get_json("/nothing")
        await server.close()

    asyncio.run(main())


def test_nonsense_does_not_hurt_the_server() -> None:
    """A connection that speaks no HTTP is closed; the next good request is answered."""

    async def main() -> None:
        async with ScriptedServer() as server:
            port = int(server.url.split(":")[2].split("/")[0])
            for said in (b"x\r\n\r\n", b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -4\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                assert await reader.read() == b""
                writer.close()
            models = await Endpoint(server.url).get_json("/models")
            assert json.dumps(models)

    asyncio.run(main())
