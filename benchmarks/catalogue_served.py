"""The servers of the catalogue's rows: an engine with twenty tools behind HTTP, and a bare uvicorn.

Law of this file: the baseline is given the engine's own answer, headers and body, and sends it whole.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from laneway import Engine

__all__ = ["TOOLS", "serving"]

TOOLS: Final = 20


@asynccontextmanager
async def serving(who: str, headers: str = "", body: str = "") -> AsyncIterator[str]:
    """Serve `GET /v1/tools`: "engine", or "uvicorn" with these headers (JSON) and this body."""
    opened = _engine() if who == "engine" else _uvicorn(json.loads(headers), body.encode())
    async with opened as port:
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def _engine() -> AsyncIterator[int]:
    async def look_up(question: str, places: list[str], most: int = 10) -> list[str]:
        """Look a question up in some places and return what was found, the best first."""
        return places[:most]

    async with Engine() as engine:
        for number in range(TOOLS):
            engine.tools.add(look_up, name=f"look_up_{number}", effects=False)
        edge = await engine.serve_http(port=0)
        yield edge.port


@asynccontextmanager
async def _uvicorn(headers: list[list[str]], body: bytes) -> AsyncIterator[int]:
    import uvicorn

    told = [(name.encode(), value.encode()) for name, value in headers]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": told})
        await send({"type": "http.response.body", "body": body})

    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listening]), name="bare uvicorn")
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running
