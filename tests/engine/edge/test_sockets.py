"""Sessions over WebSocket in memory: both subprotocols, and messages of the wrong sort."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from laneway.routing.envelope import KIND
from laneway.routing.handshake import LinkPolicy
from tests.engine.edge.double import FRAMES, Engine, user_message
from tests.engine.edge.driver import Socket
from tests.engine.edge.stage import Stage
from tests.engine.edge.test_sse import ADA

HELLO = {"hello": {"v": [1], "client": "c1", "session": "s1"}}


async def opened(stage: Stage, subprotocol: str) -> Socket:
    socket = Socket(stage.app, "/v1/stream", ADA, subprotocols=[subprotocol])
    assert (await socket.next())["subprotocol"] == subprotocol
    socket.give(json.dumps({"header": HELLO}) if subprotocol.endswith("json") else FRAMES.encode(HELLO, ()))
    return socket


async def closed(socket: Socket) -> int:
    while True:
        message = await socket.next()
        if message["type"] == "websocket.close":
            await socket.task
            code: int = message["code"]
            return code


def test_binary_frames_are_those_of_grpc() -> None:
    """Welcome, ok, the run's text, and a goodbye that closes with 1000."""

    async def main() -> None:
        stage = Stage()
        socket = await opened(stage, "laneway.v1")
        assert "welcome" in FRAMES.decode((await socket.next())["bytes"])[0]
        socket.give(FRAMES.encode({}, [user_message("one two")]))
        kinds: list[str] = []
        while "RUN_FINISHED" not in kinds:
            _, envelopes = FRAMES.decode((await socket.next())["bytes"])
            kinds += [env[KIND] for env in envelopes]
        assert kinds[0] == "RUN_STARTED"
        socket.give(FRAMES.encode({"bye": True}, ()))
        assert await closed(socket) == 1000
        assert stage.engine.session("s1").attachments == {}
        assert len(stage.streams) == 0
        await stage.engine.close()

    asyncio.run(main())


def test_json_frames_say_the_same() -> None:
    """As text messages."""

    async def main() -> None:
        stage = Stage()
        socket = await opened(stage, "laneway.v1.json")
        assert json.loads((await socket.next())["text"])["header"]["welcome"]["session"] == "s1"
        socket.give(json.dumps({"events": [{"counter": 1, "kind": "USER_MESSAGE", "text": "hi", "run": "r1"}]}))
        kinds: list[str] = []
        while "RUN_FINISHED" not in kinds:
            kinds += [event["kind"] for event in json.loads((await socket.next())["text"])["events"]]
        assert kinds == ["RUN_STARTED", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"]
        socket.leave()
        await socket.task
        assert stage.engine.session("s1").attachments == {}
        await stage.engine.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("subprotocol", "message", "code"),
    [
        ("laneway.v1", "text", 1003),
        ("laneway.v1.json", b"bytes", 1003),
        ("laneway.v1", b"\xc1", 1002),
        ("laneway.v1", b"", 1002),
        ("laneway.v1.json", "nonsense", 1002),
        ("laneway.v1.json", "[" * 5000, 1002),
        ("laneway.v1.json", '{"header": {"ack": ["e", 0, 9]}}', 1002),
        (
            "laneway.v1.json",
            json.dumps({"events": [{"counter": 1, "kind": "USER_MESSAGE", "text": "x" * 1_100_000}]}),
            1009,
        ),
    ],
)
def test_a_bad_message_ends_the_socket_with_a_typed_error(subprotocol: str, message: Any, code: int) -> None:
    """Told in a fatal notice, then in the close code."""

    async def main() -> None:
        stage = Stage()
        socket = await opened(stage, subprotocol)
        await socket.next()
        socket.give(message)
        told = await socket.next()
        header = json.loads(told["text"])["header"] if "text" in told else FRAMES.decode(told["bytes"])[0]
        assert header["notice"]["fatal"]
        assert await closed(socket) == code

    asyncio.run(main())


def test_who_says_nothing_is_closed() -> None:
    """No hello within hello_s."""

    async def main() -> None:
        stage = Stage(hello_s=0.1)
        socket = Socket(stage.app, "/v1/stream", ADA)
        await socket.next()
        assert await closed(socket) == 4408

    asyncio.run(main())


def test_a_frozen_client_is_given_up() -> None:
    """No pong for dead_after_s: LINK_LOST, which a client may resume after; the session keeps its events."""

    async def main() -> None:
        stage = Stage(Engine(LinkPolicy(heartbeat_s=0.05)))
        socket = await opened(stage, "laneway.v1.json")
        headers: list[dict[str, Any]] = []
        while (message := await socket.next())["type"] == "websocket.send":
            headers.append(json.loads(message["text"])["header"])
        assert message["code"] == 4408
        assert any("ping" in header for header in headers)
        assert headers[-1]["notice"]["code"] == "LINK_LOST"
        assert headers[-1]["notice"]["retryable"]
        await socket.task

    asyncio.run(main())
