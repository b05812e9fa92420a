"""Whatever a client sends, a real server answers with a typed error, does not grow, and serves on."""

from __future__ import annotations

import asyncio
import struct
import sys
from pathlib import Path
from typing import Any

import grpc
import msgpack
import pytest

from laneway.engine.client import Client
from laneway.routing.envelope import BODY, KIND
from laneway.routing.errors import LanewayError, PeerProtocolError
from tests.e2e.serving import Server
from tests.engine.edge.rawclient import ask, raw

MIB = 1_048_576
ROUNDS = 3


def _framed(header: bytes, items: bytes = b"\x90") -> bytes:
    return b"\x93\x01" + header + items


def _item(kind: Any = "USER_MESSAGE", body: Any = b"hi", counter: Any = 1) -> bytes:
    return bytes(msgpack.packb(["c1", counter, kind, "", "", "", "", 1, None, "", "", [body]]))


BAD_FRAMES: dict[str, tuple[bytes, str]] = {
    "oversized for us": (_framed(b"\x80", b"\x91\xc6" + struct.pack(">I", MIB) + bytes(MIB)), "TOO_LARGE"),
    "oversized for the transport": (b"\x93\x01\x80" + bytes(4 * MIB), "TOO_LARGE"),
    "nested 100,000 deep": (_framed(b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"), "DEPTH_EXCEEDED"),
    "unknown kind": (_framed(b"\x80", _item(kind="NO_SUCH_KIND")), "UNKNOWN_KIND"),
    "unknown kind number": (_framed(b"\x80", _item(kind=60_000)), "UNKNOWN_KIND"),
    "wrong type of a field": (_framed(b"\x80", _item(counter="one")), "BAD_TYPE"),
    "wrong type of the body": (_framed(b"\x80", _item(body="text")), "BAD_TYPE"),
    "wrong type of the frame": (b"\xc3", "BAD_TYPE"),
    "truncated": (_framed(b"\x80", _item())[:-3], "TRUNCATED"),
    "array header of 2^32-1": (_framed(b"\x81\xa1x\xdd\xff\xff\xff\xff"), "TOO_MANY_ITEMS"),
    "items header of 2^32-1": (_framed(b"\x80", b"\xdd\xff\xff\xff\xff"), "TOO_MANY_ITEMS"),
    "1 MiB of empty maps": (
        _framed(b"\x81\xa1x\xdd" + struct.pack(">I", MIB - 64) + b"\x80" * (MIB - 64)),
        "TOO_MANY_ITEMS",
    ),
    "NaN": (_framed(b"\x81\xa1x\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "NON_FINITE"),
}

BAD_BODIES: dict[str, tuple[str, bytes]] = {
    "run input that is not JSON": ("RUN_INPUT", b"{"),
    "run input nested 100,000 deep": ("RUN_INPUT", b"[" * 100_000),
    "run input of a wrong shape": ("RUN_INPUT", b'{"messages": 7}'),
    "message that is not UTF-8": ("USER_MESSAGE", b"\xff\xfe"),
    "tool call that is not msgpack": ("TOOL_CALL", b"\xc1"),
    "tool call with NaN": ("TOOL_CALL", msgpack.packb({"name": "t", "arguments": {"x": float("nan")}, "call_id": "c"})),
    "patch that is not JSON": ("DOC_PATCH", b"nope"),
    "patch that does not fit": ("DOC_PATCH", b'[{"op": "remove", "path": "/none"}]'),
    "update that is no update": ("DOC_SYNC", b"\x00\x02\x05\xff\xff\xff\xff\xff"),
    "presence that is no presence": ("PRESENCE", b"\x01\xff\xff\xff\xff\xff\xff"),
}


async def _one_bad_frame(target: str, frame: bytes, reason: str) -> None:
    async with raw(target) as session:
        await session.hello()
        await session.send_frame(frame)
        told, error = await session.end()
        assert type(error) is PeerProtocolError
        assert error.reason == reason
        assert told is None or told["code"] == "MALFORMED"
        assert await session.call.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


async def _good_call(target: str) -> None:
    assert (await ask(target, {"call": "tools"}))["result"] == []


async def _good_run(target: str) -> None:
    async with Client(target, session="good") as client:
        receipt = await client.send("hello")
        async for event in client:
            if event.run == receipt.run and event.ends_run:
                assert event.kind == "RUN_FINISHED"
                return


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_bad_frames_do_not_hurt_a_server(tmp_path: Path) -> None:
    """Each gets its typed error and the next good call works; 3 rounds of all grow it by less than 16 MiB."""

    async def main() -> None:
        async with asyncio.timeout(100), Server(tmp_path / "engine.db", model="scripted") as server:
            await _good_run(server.target)
            before = server.rss_bytes
            for _ in range(ROUNDS):
                for frame, reason in BAD_FRAMES.values():
                    await _one_bad_frame(server.target, frame, reason)
                    await _good_call(server.target)
            grown = server.rss_bytes - before
            await _good_run(server.target)
            assert grown < 16 * MIB, f"{grown / MIB:.1f} MiB"
            assert (await server.stop())[0] == 0

    asyncio.run(main())


@pytest.mark.parametrize("name", list(BAD_BODIES))
def test_a_bad_body_is_the_trouble_of_its_event_only(name: str, shared_server: str) -> None:
    """It is refused, or ends in an error event or a notice; the link, and the next run, are not hurt."""
    kind, body = BAD_BODIES[name]

    async def main() -> None:
        async with asyncio.timeout(60), raw(shared_server) as session:
            await session.hello(session="bad", client=f"c-{name.replace(' ', '-').replace(',', '')}")
            await session.send_frame(_framed(b"\x80", _item(kind=kind, body=body)))
            assert await _trouble(session)
            await session.send_frame(_framed(b"\x80", _item(counter=2, body=b"still there?")))
            header = await session.until("ok")
            assert [row[:2] for row in header["ok"]] == [[2, 1]]

    asyncio.run(main())


async def _trouble(session: Any) -> bool:
    """Read until something says that the event failed."""
    while True:
        header, envelopes = await session.next()
        if "refused" in header or "notice" in header:
            return True
        for env in envelopes:
            known = msgpack.unpackb(env[BODY]) if env[KIND] in ("RUN_ERROR", "TOOL_CALL_RESULT") else {}
            if known:
                return "code" in known or "error" in str(known.get("content", ""))


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One server for all bodies; it must survive them and stop as it should."""
    loop = asyncio.new_event_loop()
    server = Server(tmp_path_factory.mktemp("bodies") / "engine.db", model="scripted")
    try:
        loop.run_until_complete(server.__aenter__())
        yield server.target
        loop.run_until_complete(_good_run(server.target))
        code, _ = loop.run_until_complete(server.stop())
        assert code == 0
        assert "Traceback" not in server.errors, server.errors
    finally:
        loop.run_until_complete(server.__aexit__(None, None, None))
        loop.close()


def test_a_bad_call_is_a_typed_error(shared_server: str) -> None:
    """Unknown names and wrong fields of unary calls."""

    async def main() -> None:
        for header, reason in (
            ({"call": "no_such"}, "UNKNOWN_CALL"),
            ({"call": 7}, "BAD_TYPE"),
            ({"call": "publish"}, "BAD_TYPE"),
            ({"call": "tail", "after": "x"}, "BAD_TYPE"),
            ({"call": "dlq", "action": "burn"}, "BAD_TYPE"),
            ({"call": "dlq", "ids": ["x"]}, "BAD_TYPE"),
        ):
            with pytest.raises(LanewayError) as caught:
                await ask(shared_server, header)
            assert caught.value.reason == reason

    asyncio.run(main())
