"""The HTTP/1.1 client, against raw sockets that say exactly what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from laneway.engine.models.endpoint import Endpoint, EndpointLimits
from laneway.routing.errors import ConfigError, ModelFailed

LIMITS = EndpointLimits(connect_s=5, first_byte_s=5, idle_s=5, head_bytes=1_000, body_bytes=1_000)


@asynccontextmanager
async def raw_server(answer: bytes, *, hang: bool = False) -> AsyncIterator[tuple[str, list[bytes], asyncio.Event]]:
    """Answer every connection with these bytes; `gone` is set when the client has left."""
    heard: list[bytes] = []
    gone = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with suppress(OSError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            if hang:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        gone.set()

    handlers: list[asyncio.Task[None] | None] = []
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", heard, gone
        finally:
            await asyncio.gather(*[handler for handler in handlers if handler is not None])


def _get(answer: bytes, limits: EndpointLimits = LIMITS, *, hang: bool = False) -> Any:
    async def main() -> Any:
        async with raw_server(answer, hang=hang) as (url, _, _):
            return await Endpoint(url, limits=limits).get_json("/x")

    return asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n[1, 2.5]",
        b"HTTP/1.0 200 OK\r\n\r\n[1, 2.5]",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n[1, 2.5]",
        b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n5;ext=1\r\n 2.5]\r\n0\r\nTrailer: x\r\n\r\n",
    ],
    ids=["length", "until-close", "continue", "chunked"],
)
def test_every_framing_of_a_body_is_read(answer: bytes) -> None:
    """Content-Length, chunked with extensions and trailers, and read-until-close give the same JSON."""
    assert _get(answer) == [1, 2.5]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "BROKEN"),
        (b"SSH-2.0-x\r\n\r\n", "MALFORMED"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1]", "BROKEN"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "MALFORMED"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n[1]", "BROKEN"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n", "BROKEN"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\n[1]\r\n", "MALFORMED"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1]\r\n0\r\n\r\n", "MALFORMED"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2_000 + b"\r\n\r\n", "TOO_LARGE"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 2_000, "TOO_LARGE"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "MALFORMED"),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nwait", "HTTP_503"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n", "HTTP_302"),
    ],
)
def test_bad_answers_are_typed(answer: bytes, reason: str) -> None:
    """Whatever a broken or hostile server says ends as ModelFailed with its reason."""
    with pytest.raises(ModelFailed) as caught:
        _get(answer)
    assert caught.value.reason == reason
    assert caught.value.retry_after_ms == (7_000 if reason == "HTTP_503" else None)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["before-head", "in-body"])
def test_silence_is_a_timeout(answer: bytes) -> None:
    """A server that says nothing more is left after the deadline."""
    with pytest.raises(ModelFailed) as caught:
        _get(answer, EndpointLimits(first_byte_s=0.05, idle_s=0.05), hang=True)
    assert caught.value.reason == "TIMEOUT"


def test_nobody_listening_is_connect() -> None:
    """A closed port is CONNECT, which may be tried again."""

    async def main() -> None:
        async with raw_server(b"") as (url, _, _):
            pass
        with pytest.raises(ModelFailed) as caught:
            await Endpoint(url, limits=LIMITS).get_json("/x")
        assert caught.value.reason == "CONNECT"

    asyncio.run(main())


def test_traceparent_goes_along() -> None:
    """One header, and only if the run is traced."""
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

    async def asked(trace: str) -> bytes:
        answer = b"HTTP/1.1 200 OK\r\n\r\nsome"
        async with (
            raw_server(answer, hang=True) as (url, heard, _),
            Endpoint(url, limits=LIMITS).request("POST", "/y", {"a": 1}, trace=trace),
        ):
            return heard[0]

    assert f"\r\ntraceparent: {trace}\r\n".encode() in asyncio.run(asked(trace))
    assert b"traceparent" not in asyncio.run(asked(""))


def test_leaving_a_reply_closes_the_connection() -> None:
    """The server sees the interrupt at once."""

    async def main() -> None:
        async with raw_server(b"HTTP/1.1 200 OK\r\n\r\nsome", hang=True) as (url, heard, gone):
            async with Endpoint(url, api_key="k", limits=LIMITS).request("POST", "/y", {"a": 1}) as reply:
                assert await anext(reply.body()) == b"some"
            async with asyncio.timeout(20):
                await gone.wait()
            assert heard[0].startswith(b"POST /v1/y HTTP/1.1\r\nHost: 127.0.0.1:")
            assert b"Authorization: Bearer k\r\n" in heard[0]

    asyncio.run(main())


@pytest.mark.parametrize(
    "url", ["ftp://x", "x", "http://", "http://u:p@h/", "http://h/?q=1", "http://h:99999/", "http://h/a b"]
)
def test_unusable_urls_are_config_errors(url: str) -> None:
    """A wrong URL fails when it is set, not at the first run."""
    with pytest.raises(ConfigError):
        Endpoint(url)


def test_headers_cannot_be_injected() -> None:
    """A line break in a key or header is refused."""
    for make in _injections():
        with pytest.raises(ConfigError, match="characters"):
            make()


def _injections() -> list[Callable[[], Endpoint]]:
    return [
        lambda: Endpoint("http://h", api_key="a\r\nX: y"),
        lambda: Endpoint("http://h", headers={"X\r\nY": "z"}),
    ]


def test_urls_are_shown_without_secrets() -> None:
    """Errors and repr name the endpoint, never its key."""
    endpoint = Endpoint("https://api.example/v1/", api_key="secret")
    assert endpoint.url == "https://api.example:443/v1"
    assert "secret" not in repr(endpoint)
    assert Endpoint("http://[::1]:8080/v1").url == "http://[::1]:8080/v1"
