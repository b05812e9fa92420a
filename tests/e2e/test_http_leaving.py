"""Clients that leave at any moment: after each of the first steps of a request, nothing is left of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from laneway.engine.app.engine import Engine
from laneway.engine.edge.asgi import Asgi
from laneway.engine.models.synthetic import SyntheticModel
from tests.engine.edge.driver import Call, Socket, scope

STEPS = 40
WITHIN_S = 60.0
JSON = {"content-type": "application/json"}
EVENTS = {**JSON, "accept": "text/event-stream"}
MESSAGE = {"counter": 1, "kind": "USER_MESSAGE", "text": "hi"}
HELLO = {"v": [1], "client": "c", "session": "s"}
RUN = {"threadId": "t", "messages": [], "state": {}, "tools": [], "context": [], "forwardedProps": {}}


def _links(engine: Engine) -> int:
    rows = engine.metrics().splitlines()
    return int(float(next(row for row in rows if row.startswith("laneway_links ")).split()[-1]))


def _tasks() -> set[str]:
    return {str(getattr(task.get_coro(), "__qualname__", "")) for task in asyncio.all_tasks()}


async def _steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _request(app: Asgi, path: str, headers: dict[str, str], document: Any, steps: int) -> None:
    """One request whose client leaves after some turns of the loop; every third one before its body is whole."""
    call = Call(app, scope("POST", path, headers))
    data = json.dumps(document).encode()
    if steps % 3 == 0:
        call.feed(data[:5], more=True)
    else:
        call.feed(data)
    if steps % 2:
        call.flowing.clear()  # it does not read either
    await _steps(steps)
    call.leave()
    call.flowing.set()  # as a server does when a connection is lost
    async with asyncio.timeout(WITHIN_S):
        await call.task


async def _socket(app: Asgi, document: Any, steps: int) -> None:
    socket = Socket(app, "/v1/stream", subprotocols=["laneway.v1.json"])
    socket.give(json.dumps(document))
    await _steps(steps)
    socket.leave()
    async with asyncio.timeout(WITHIN_S):
        await socket.task


@pytest.mark.parametrize("way", ["answer", "events", "agui", "socket"])
def test_nothing_is_left_of_a_client_that_left(way: str) -> None:
    """No task, no link, no stream, wherever it stopped; the next client is served, and the engine closes whole."""

    async def main() -> None:
        async with Engine() as engine:
            engine.nlp.use(SyntheticModel(tokens_per_s=1_000))
            app = engine.asgi()
            usual = _tasks() | {"Cell._work"}  # runs go on without their clients, in the pools
            for steps in range(STEPS):
                run = f"r{steps}"
                if way == "answer":
                    await _request(app, "/v1/stream", JSON, {"session": "s", "message": "hi"}, steps)
                elif way == "events":
                    await _request(app, "/v1/stream", EVENTS, {"session": "s", "events": [MESSAGE]}, steps)
                elif way == "agui":
                    await _request(app, "/agui", EVENTS, {**RUN, "runId": run}, steps)
                else:
                    await _socket(app, {"header": {"hello": HELLO}, "events": [MESSAGE]}, steps)
                assert (len(app.streams), _links(engine)) == (0, 0), steps
                assert _tasks() <= usual, steps
            good = Call(app, scope("POST", "/v1/stream", JSON))
            good.feed(b'{"session": "good", "message": "hi"}')
            assert (await good.answer()).status == 200
        assert _tasks() == {main.__qualname__}

    asyncio.run(main())
