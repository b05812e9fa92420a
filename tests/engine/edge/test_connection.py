"""What a peer may cost on a real socket, by hand-written bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from laneway.engine.edge.asgi import Endpoint, SocketEndpoint
from laneway.engine.edge.bounds import Bounds
from laneway.engine.edge.exchange import Exchange
from laneway.engine.edge.http import HttpEdge, HttpPolicy
from laneway.engine.edge.websocket import WebSocket
from tests.engine.edge.driver import app

WITHIN_S = 60.0
UPGRADE = (
    b"GET /s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: laneway.v1\r\n\r\n"
)


async def hello(exchange: Exchange) -> None:
    await exchange.respond(200, {}, b"hello")


async def echo(exchange: Exchange) -> None:
    await exchange.respond(200, {}, await exchange.body())


async def large(exchange: Exchange) -> None:
    await exchange.respond(200, {}, bytes(16_777_216))


async def repeat(socket: WebSocket) -> None:
    while (message := await socket.receive()) is not None:
        await socket.send(message)


@asynccontextmanager
async def listening(*more: Endpoint, **bounds: Any) -> AsyncIterator[HttpEdge]:
    routes = [Endpoint("GET", "/", hello), Endpoint("POST", "/", echo), Endpoint("GET", "/large", large), *more]
    served = app(*routes, sockets=[SocketEndpoint("/s", repeat, ("laneway.v1",))], body_s=0.3)
    edge = HttpEdge(served, HttpPolicy(message_bytes=65_536, bounds=Bounds(**bounds)))
    await edge.start()
    try:
        async with asyncio.timeout(WITHIN_S):
            yield edge
            async with raw(edge.port) as (reader, writer):  # whatever came before
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert (await reader.read()).endswith(b"hello")
    finally:
        await edge.close()


@asynccontextmanager
async def serving(**bounds: Any) -> AsyncIterator[int]:
    async with listening(**bounds) as edge:
        yield edge.port


@asynccontextmanager
async def raw(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def said(port: int, data: bytes) -> tuple[int, Any]:
    """Send bytes and return (status, reason) of the one answer before the server closes; (0, None) if none came."""
    async with raw(port) as (reader, writer):
        writer.write(data)
        try:
            answer = await reader.read()
        except ConnectionResetError:
            return 0, None
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1]) if head else 0
    return status, json.loads(body)["reason"] if body.startswith(b"{") else None


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"GET / HTTP/1.1", b"Host: localhost", *lines)) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "NOT_HTTP"),  # a TLS hello on a plain port
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "NOT_HTTP"),
        (b"NONSENSE\r\n\r\n", 400, "NOT_HTTP"),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400, "NOT_HTTP"),
        (head(b"X: a\x00b"), 400, "NOT_HTTP"),
        (head(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, "NOT_HTTP"),
        (head(b"Content-Length: 3", b"Content-Length: 4"), 400, "NOT_HTTP"),
        (head(b"Content-Length: -1"), 400, "NOT_HTTP"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414, "URL_TOO_LONG"),
        (head(*(b"X-%d: 1" % n for n in range(200))), 431, "HEADERS_TOO_LARGE"),
        (head(b"X: " + b"a" * 20_000), 431, "HEADERS_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 400_000, 431, "HEADERS_TOO_LARGE"),  # never ends
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", 400, "NOT_HTTP"),
        (UPGRADE.replace(b"GET", b"POST"), 400, "NOT_HTTP"),
        (UPGRADE.replace(b"/s", b"/\xff"), 400, "NOT_HTTP"),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "NOT_HTTP"),
        (b"GET http://evil.example:x/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "NOT_HTTP"),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "NOT_HTTP"),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404, "NO_ROUTE"),
        (head(b"Content-Length: 99999999999999999999999"), 400, "NOT_HTTP"),
        (head(b"Content-Length: +5"), 400, "NOT_HTTP"),
        (head(b"Content-Length: 1, 1"), 400, "NOT_HTTP"),
        (head(b"Transfer-Encoding: xchunked"), 400, "NOT_HTTP"),
        (head(b"Transfer-Encoding: chunked, identity"), 400, "NOT_HTTP"),
        (head(b"X: 1", b" folded: 2"), 400, "NOT_HTTP"),
        (head(b"X: a\rb: c"), 400, "NOT_HTTP"),
        (b"GET / HTTP/1.1\nHost: localhost\n\n", 400, "NOT_HTTP"),
        (UPGRADE.replace(b"Upgrade:", b"Cookie: " + b"a" * 9_000 + b"\r\nUpgrade:"), 431, "HEADERS_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "NO_HOST"),
    ],
)
def test_what_is_not_http_is_refused(data: bytes, status: int, reason: str) -> None:
    """With our error, and the connection ends; the next good request is served."""

    async def main() -> None:
        async with serving() as port:
            assert await said(port, data) == (status, reason)

    asyncio.run(main())


def test_a_plain_health_check_names_no_host() -> None:
    """HTTP/1.0, as load balancers ask by default: it is for the address it came to."""

    async def main() -> None:
        async with serving() as port:
            assert (await said(port, b"GET / HTTP/1.0\r\n\r\n"))[0] == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"", 0, None),  # silent
        (b"GET / HTT", 408, "SLOW_HEADERS"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a", 408, "SLOW_HEADERS"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc", 408, "SLOW_BODY"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc", 200, None),  # answered, then closed
    ],
)
def test_slow_requests_end_at_a_deadline(data: bytes, status: int, reason: str | None) -> None:
    """Silence, half a header, half a body: 408 where a request was begun."""

    async def main() -> None:
        async with serving(head_s=0.3, body_s=1.5) as port:
            assert await said(port, data) == (status, reason)

    asyncio.run(main())


def test_slowloris_holds_nobody_else_up() -> None:
    """100 sockets that drip headers are closed at the deadline while another client is served."""

    async def drip(port: int) -> bool:
        async with raw(port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n")
            answer = asyncio.create_task(reader.read())
            while not answer.done():
                writer.write(b"X: 1\r\n")
                await asyncio.wait({answer}, timeout=0.1)
            return b"SLOW_HEADERS" in answer.result()

    async def main() -> None:
        async with serving(head_s=0.5) as port:
            dripping = [asyncio.create_task(drip(port)) for _ in range(100)]
            assert (await said(port, head(b"Connection: close")))[0] == 200
            assert all(await asyncio.gather(*dripping))

    asyncio.run(main())


def test_connections_are_counted() -> None:
    """One too many is reset at once; when one leaves there is room again."""

    async def main() -> None:
        async with serving(connections=2) as port:
            async with raw(port) as (first, writer), raw(port):
                writer.write(head())
                await first.readuntil(b"hello")
                assert await said(port, head()) == (0, None)
            while (await said(port, head(b"Connection: close")))[0] != 200:
                pass

    asyncio.run(main())


def test_an_answer_that_nobody_reads_is_cut_off() -> None:
    """16 MiB to a client that reads nothing end after stall_s; one that reads slowly gets all of it."""

    async def main() -> None:
        async with listening(stall_s=0.2) as edge:
            async with raw(edge.port) as (reader, writer):
                writer.transport.pause_reading()
                writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while not edge.connections:  # noqa: ASYNC110 (the server has no event for a test)
                    await asyncio.sleep(0)
                while edge.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                writer.transport.resume_reading()
                with contextlib.suppress(ConnectionResetError):
                    assert len(await reader.read()) < 16_777_216
            async with raw(edge.port) as (reader, writer):
                writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                size = 0
                while block := await reader.read(1_048_576):
                    size += len(block)
                    await asyncio.sleep(0.02)
                assert size > 16_777_216

    asyncio.run(main())


def test_trailers_and_early_answers_are_bounded() -> None:
    """A request of more bytes than its body may have around it is ended, whoever reads it."""

    async def main() -> None:
        async with serving(message_bytes=200_000) as port:
            start = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
            status, _ = await said(port, start + b"X: " + b"a" * 4_000_000)
            assert status == 413

    asyncio.run(main())


def test_an_answer_before_the_end_of_a_body() -> None:
    """It arrives, the rest is passed over, and the connection serves on; more than a request may have ends it."""

    async def main() -> None:
        async with serving(message_bytes=2_000_000) as port:
            async with raw(port) as (reader, writer):
                writer.write(head(b"Content-Length: 1000000") + bytes(1_000_000) + head(b"Connection: close"))
                assert (await reader.read()).count(b" 200 OK") == 2
            async with raw(port) as (reader, writer):
                writer.write(head(b"Content-Length: 9000000"))
                await reader.readuntil(b"hello")
                writer.write(bytes(9_000_000))
                assert await reader.read() == b""

    asyncio.run(main())


def test_pipelined_requests_are_answered_in_order() -> None:
    """And a half-closed client has left."""

    async def main() -> None:
        async with serving() as port, raw(port) as (reader, writer):
            writer.write(head() * 3)
            for _ in range(3):
                assert b" 200 " in await reader.readuntil(b"hello")
            writer.write_eof()
            assert await reader.read() == b""

    asyncio.run(main())


# ---- WebSocket frames ---------------------------------------------------------------------------


def old(*lines: bytes) -> bytes:
    return head(*lines).replace(b"HTTP/1.1", b"HTTP/1.0")


@pytest.mark.parametrize(
    "start", [head(b"Connection: close", b"Content-Length: 1000000"), old(b"Content-Length: 1000000")]
)
def test_an_early_answer_reaches_a_client_that_wants_no_more(start: bytes) -> None:
    """With `Connection: close`, or over HTTP/1.0: the unread body does not turn the answer into a reset."""

    async def main() -> None:
        async with serving() as port, raw(port) as (reader, writer):
            writer.write(start + bytes(1_000_000))
            assert (await reader.read()).endswith(b"hello")

    asyncio.run(main())


def test_a_body_that_waits_for_permission() -> None:
    """`Expect: 100-continue` gets it once somebody reads, and then the answer."""

    async def main() -> None:
        async with serving() as port, raw(port) as (reader, writer):
            start = head(b"Content-Length: 4", b"Expect: 100-continue", b"Connection: close")
            writer.write(start.replace(b"GET", b"POST"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"body")
            assert (await reader.read()).endswith(b"body")

    asyncio.run(main())


@pytest.mark.parametrize("cut", [0, 30, 120, 160])
def test_an_upgrade_to_something_else_is_passed_over(cut: int) -> None:
    """The request is served over HTTP/1.1 with its body, and so is the next one; curl --http2 and Java ask so."""
    h2c = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ")
    first = head(*h2c, b"Content-Length: 4").replace(b"GET", b"POST") + b"body"
    data = first + first + head(b"Connection: close")

    async def main() -> None:
        async with serving() as port, raw(port) as (reader, writer):
            writer.write(data[:cut])
            await asyncio.sleep(0)
            writer.write(data[cut:])
            said = await reader.read()
            assert (said.count(b" 200 "), said.count(b"body"), said[-5:]) == (3, 2, b"hello")

    asyncio.run(main())


class Endless:
    """A route that streams until its client is gone."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        gone = exchange.disconnected
        await exchange.start_stream(200)
        while not gone.done():
            await exchange.send(b"more")
            await asyncio.sleep(0)
        self.left.set()


@pytest.mark.parametrize("behind", [head(), head() * 3, b"NONSENSE\r\n\r\n", UPGRADE, head(b"X: " + b"a" * 20_000)])
def test_a_stream_hears_that_its_client_left_whatever_came_behind_it(behind: bytes) -> None:
    """Nothing is left running for a connection that is gone, and nothing is written into the middle of an answer."""

    async def main() -> None:
        endless = Endless()
        async with listening(Endpoint("GET", "/endless", endless)) as edge:
            async with raw(edge.port) as (reader, writer):
                writer.write(head().replace(b"GET /", b"GET /endless") + behind)
                said = b""
                with contextlib.suppress(ConnectionResetError):
                    said = await reader.read(1)
                    if not behind.startswith(head()):
                        said += await reader.read()
                assert b"NOT_HTTP" not in said
                assert b" 101 " not in said
            await endless.left.wait()

    asyncio.run(main())


def test_the_requests_behind_another_one_are_bounded() -> None:
    """Thousands of them in one go end the connection."""

    async def main() -> None:
        async with serving(pipelined=16) as port, raw(port) as (reader, writer):
            writer.write(head(b"Content-Length: 9").replace(b"GET", b"POST") + b"123456789" + head() * 2_000)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(100_000)

    asyncio.run(main())


def test_blank_lines_do_not_keep_an_idle_connection() -> None:
    """After an answer the next request is due, whatever stands in front of it."""

    async def main() -> None:
        async with serving(head_s=0.2) as port, raw(port) as (reader, writer):
            writer.write(head())
            await reader.readuntil(b"hello")
            writer.write(b"\r\n")
            assert b"SLOW_HEADERS" in await reader.read()

    asyncio.run(main())


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + struct.pack(">H", size) if size <= 0xFFFF else b"\x7f" + struct.pack(">Q", size)
    if not masked:
        return bytes([first]) + length + payload
    return bytes([first, length[0] | 0x80]) + length[1:] + b"\0\0\0\0" + payload


async def upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(UPGRADE)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"permessage-deflate" not in answer


async def closed_with(reader: asyncio.StreamReader) -> int:
    """Read up to the close frame and return its code."""
    while True:
        first, size = await reader.readexactly(2)
        if size == 126:
            size = struct.unpack(">H", await reader.readexactly(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", await reader.readexactly(8))[0]
        payload = await reader.readexactly(size)
        if first & 0x0F == 8:
            code: int = struct.unpack(">H", payload[:2])[0]
            return code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(2, b"x", masked=False), 1002),
        (frame(2, b"x", reserved=4), 1002),
        (frame(2, b"x", reserved=1), 1002),
        (frame(3, b"x"), 1002),
        (frame(9, b"x" * 126), 1002),
        (frame(9, b"x", fin=False), 1002),
        (frame(0, b"x"), 1002),
        (frame(2, b"x", fin=False) + frame(2, b"y"), 1002),
        (frame(1, b"\xff\xfe"), 1007),
        (frame(2, bytes(65_537)), 1009),
        (frame(2, b"", fin=False) + frame(0, b"x" * 40_000, fin=False) * 2, 1009),
        (frame(2, b"", fin=False) + frame(0, b"x", fin=False) * 2_000, 1009),
        (frame(2, b"", fin=False) + frame(0, b"", fin=False) * 100_000, 1009),
        (frame(8, b"\x03"), 1002),
        (frame(8, struct.pack(">H", 1005)), 1002),
        (frame(8, struct.pack(">H", 1000)), 1000),
    ],
)
def test_frames_against_the_rules(data: bytes, code: int) -> None:
    """Each ends with the code of RFC 6455."""

    async def main() -> None:
        async with serving() as port, raw(port) as (reader, writer):
            await upgraded(reader, writer)
            writer.write(data)
            assert await closed_with(reader) == code

    asyncio.run(main())


def test_fragments_and_pings_in_between() -> None:
    """A message in parts, with a ping inside, is one message."""

    async def main() -> None:
        async with serving() as port, raw(port) as (reader, writer):
            await upgraded(reader, writer)
            writer.write(frame(2, b"he", fin=False) + frame(9, b"?") + frame(0, b"l", fin=False) + frame(0, b"lo"))
            assert await reader.readexactly(3) == b"\x8a\x01?"
            assert await reader.readexactly(7) == b"\x82\x05hello"

    asyncio.run(main())


def test_pings_that_nobody_reads_the_pongs_of() -> None:
    """They gather no memory: beyond the write buffer they are not answered, and the peer is cut off."""

    async def main() -> None:
        async with serving(stall_s=0.3) as port, raw(port) as (reader, writer):
            await upgraded(reader, writer)
            writer.transport.pause_reading()

            async def flood() -> None:
                for _ in range(2000):
                    writer.write(frame(9, bytes(125)) * 1000)
                    await writer.drain()

            with pytest.raises(ConnectionError):
                await flood()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Key: short"),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""),
    ],
)
def test_a_bad_upgrade_is_refused(old: bytes, new: bytes) -> None:
    """With a status of the 4xx."""

    async def main() -> None:
        async with serving() as port:
            status, _ = await said(port, UPGRADE.replace(old, new))
            assert 400 <= status < 500

    asyncio.run(main())


def test_a_long_header_that_an_upgrade_may_have() -> None:
    """A token of 8 KiB fits."""

    async def main() -> None:
        async with serving() as port, raw(port) as (reader, writer):
            token = b"Authorization: Bearer " + b"a" * 8_000 + b"\r\nUpgrade:"
            writer.write(UPGRADE.replace(b"Upgrade:", token, 1))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

    asyncio.run(main())
