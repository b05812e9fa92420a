"""The state pool in a whole engine."""

from __future__ import annotations

import asyncio
import json

from laneway import Engine

WITHIN_S = 60.0


def test_a_patch_reaches_the_other_session() -> None:
    """One session follows a document as JSON, another patches it."""

    async def main() -> None:
        async with (
            asyncio.timeout(WITHIN_S),
            Engine() as engine,
            engine.session("reader") as reader,
            engine.session("writer") as writer,
        ):
            await reader.send_event("DOC_PATCH", b"[]", entity="board")
            assert (await anext(reader)).data["snapshot"] == {}
            patch = [{"op": "add", "path": "/title", "value": "Plan"}]
            await writer.send_event("DOC_PATCH", json.dumps(patch).encode(), entity="board")
            assert (await anext(reader)).data["delta"] == patch

    asyncio.run(main())
