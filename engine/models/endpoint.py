"""One HTTP/1.1 endpoint over asyncio streams: a request, a streamed answer, a connection closed at once.

Law of this file: leaving a request closes its connection immediately, so that the server sees the
interrupt and stops generating (llama.cpp frees the slot at its next token). That is why each
request has its own connection, why nothing is pooled, and why an own client of two hundred lines
does what is needed: TLS, chunked bodies, deadlines and limits (RFC 9112). Redirects are not
followed, proxies and compression are not used.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from laneway.routing.errors import ConfigError, ModelFailed

__all__ = ["Endpoint", "EndpointLimits", "Reply"]

_READ_BYTES: Final = 65_536
_MAX_HEADERS: Final = 128
_MAX_RETRY_AFTER_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """Deadlines and bounds of one request.

    Attributes:
        connect_s: name look-up, TCP and TLS.
        first_byte_s: from the request to the answer's head; a local model reads its prompt here.
        idle_s: between two pieces of the body.
        head_bytes: status line and headers, and one chunk-size line.
        body_bytes: the whole body.
    """

    connect_s: float = 10.0
    first_byte_s: float = 120.0
    idle_s: float = 60.0
    head_bytes: int = 32_768
    body_bytes: int = 67_108_864


class Endpoint:
    """Where requests go.

    Args:
        base_url: ``http[s]://host[:port][/prefix]``; ConfigError if it is anything else.
        api_key: sent as a bearer token; never shown in errors.
        headers: more headers for every request.
        limits: deadlines and bounds.
        tls: an SSL context; by default the platform's trusted roots.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str = "",
        headers: Mapping[str, str] | None = None,
        limits: EndpointLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._secure, self._host, self._port, self._prefix = _parsed(base_url)
        self._limits = limits or EndpointLimits()
        self._tls = tls
        extra = dict(headers or {})
        if api_key:
            extra["Authorization"] = f"Bearer {api_key}"
        self._headers = _header_lines(extra)

    def __repr__(self) -> str:
        return f"<Endpoint {self.url}>"

    @property
    def url(self) -> str:
        """The base URL, without credentials."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._secure else 'http'}://{host}:{self._port}{self._prefix}"

    @asynccontextmanager
    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, trace: str = ""
    ) -> AsyncIterator[Reply]:
        """Send one request and give its reply once the head is here; leaving closes the connection.

        `trace` is a valid W3C traceparent to send along, or empty.

        Raises ModelFailed with reason CONNECT, TIMEOUT, BROKEN, MALFORMED or TOO_LARGE; a bad
        status is not an error here (see `Reply.check`).
        """
        reader, writer = await self._connect()
        try:
            reply = Reply(reader, self._limits, self.url)
            try:
                async with asyncio.timeout(self._limits.first_byte_s):
                    writer.write(self._request(method, path, body, trace))
                    await writer.drain()
                    await reply.read_head()
            except TimeoutError as error:
                raise self._failed(f"did not answer within {self._limits.first_byte_s:g} s", "TIMEOUT") from error
            except OSError as error:
                raise self._failed(f"closed the connection ({error})", "BROKEN") from error
            yield reply
        finally:
            writer.transport.abort()

    async def get_json(self, path: str) -> Any:
        """GET a JSON document. Raises ModelFailed as `request` does, and for a bad status."""
        async with self.request("GET", path) as reply:
            await reply.check()
            return await reply.json()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = (self._tls or ssl.create_default_context()) if self._secure else None
        try:
            async with asyncio.timeout(self._limits.connect_s):
                return await asyncio.open_connection(self._host, self._port, ssl=tls, limit=self._limits.head_bytes)
        except TimeoutError as error:
            raise self._failed(f"could not be reached within {self._limits.connect_s:g} s", "CONNECT") from error
        except (OSError, ssl.CertificateError) as error:
            raise self._failed(f"could not be reached ({error})", "CONNECT") from error

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, trace: str) -> bytes:
        payload = (
            b"" if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        )
        host = f"[{self._host}]" if ":" in self._host else self._host
        traced = f"traceparent: {trace}\r\n" if trace else ""
        head = (
            f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: {host}:{self._port}\r\nConnection: close\r\n"
            f"Accept: text/event-stream, application/json\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\n{traced}{self._headers}\r\n"
        )
        return head.encode("latin-1") + payload

    def _failed(self, what: str, reason: str) -> ModelFailed:
        return ModelFailed(f"the model endpoint {self.url} {what}", reason=reason)


class Reply:
    """One answer: its head, and its body as it arrives."""

    def __init__(self, reader: asyncio.StreamReader, limits: EndpointLimits, url: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._reader = reader
        self._limits = limits
        self._url = url

    async def read_head(self) -> None:
        """Read status and headers, passing over 1xx answers. Raises ModelFailed or OSError."""
        while self.status < 200:
            lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            parts = lines[0].split(" ", 2)
            if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdecimal() or len(parts[1]) != 3:
                raise self._failed("answered with something that is not HTTP/1.1", "MALFORMED")
            if len(lines) > _MAX_HEADERS:
                raise self._failed(f"sent more than {_MAX_HEADERS} headers", "TOO_LARGE")
            self.status = int(parts[1])
            pairs = (line.partition(":") for line in lines[1:] if line)
            self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}

    async def check(self) -> None:
        """Raise ModelFailed(HTTP_nnn) with the server's own words unless the status is 2xx."""
        if 200 <= self.status < 300:
            return
        said = ""
        async for piece in self.body():
            said += piece.decode("utf-8", "replace")
            if len(said) > 2_000:
                break
        shown = " ".join(said.split())[:500]
        failed = self._failed(f"refused with status {self.status}: {shown or 'no reason given'}", f"HTTP_{self.status}")
        failed.retry_after_ms = self._retry_after_ms()
        raise failed

    async def body(self) -> AsyncGenerator[bytes, None]:
        """Yield the body. Raises ModelFailed: TIMEOUT, BROKEN (cut short), MALFORMED, TOO_LARGE."""
        total = 0
        pieces = self._chunked() if "chunked" in self.headers.get("transfer-encoding", "").lower() else self._plain()
        async for piece in pieces:
            total += len(piece)
            if total > self._limits.body_bytes:
                raise self._failed(f"sent more than {self._limits.body_bytes} bytes", "TOO_LARGE")
            yield piece

    async def json(self) -> Any:
        """Read the whole body as JSON."""
        data = b"".join([piece async for piece in self.body()])
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._failed("answered with something that is not JSON", "MALFORMED") from error

    async def _plain(self) -> AsyncIterator[bytes]:
        declared = self.headers.get("content-length")
        if declared is not None and not declared.isdecimal():
            raise self._failed(f"sent the Content-Length {declared[:40]!r}", "MALFORMED")
        left = int(declared) if declared is not None else None
        while left != 0:
            piece = await self._timed(self._reader.read(_READ_BYTES if left is None else min(left, _READ_BYTES)))
            if not piece:
                if left is None:
                    return
                raise self._failed(f"closed the connection {left} bytes before the end", "BROKEN")
            left = None if left is None else left - len(piece)
            yield piece

    async def _chunked(self) -> AsyncIterator[bytes]:
        while left := await self._chunk_size():
            while left:
                piece = await self._timed(self._reader.read(min(left, _READ_BYTES)))
                if not piece:
                    raise self._failed("closed the connection inside a chunk", "BROKEN")
                left -= len(piece)
                yield piece
            if await self._timed(self._until(b"\r\n")) != b"":
                raise self._failed("sent a chunk longer than it said", "MALFORMED")
        for _ in range(_MAX_HEADERS):
            if not await self._timed(self._until(b"\r\n")):
                return
        raise self._failed(f"sent more than {_MAX_HEADERS} trailers", "TOO_LARGE")

    async def _chunk_size(self) -> int:
        line = (await self._timed(self._until(b"\r\n"))).partition(b";")[0].strip()
        if not line or len(line) > 16 or not set(line) <= _HEX:
            raise self._failed("sent a chunk without a size", "MALFORMED")
        return int(line, 16)

    async def _timed(self, reading: Any) -> bytes:
        try:
            async with asyncio.timeout(self._limits.idle_s):
                return bytes(await reading)
        except TimeoutError as error:
            raise self._failed(f"sent nothing for {self._limits.idle_s:g} s", "TIMEOUT") from error
        except OSError as error:
            raise self._failed(f"closed the connection ({error})", "BROKEN") from error

    async def _until(self, mark: bytes) -> bytes:
        try:
            return (await self._reader.readuntil(mark))[: -len(mark)]
        except asyncio.IncompleteReadError as error:
            raise self._failed("closed the connection before the end", "BROKEN") from error
        except asyncio.LimitOverrunError as error:
            raise self._failed(f"sent a head above {self._limits.head_bytes} bytes", "TOO_LARGE") from error

    def _retry_after_ms(self) -> int | None:
        value = self.headers.get("retry-after", "")
        return int(min(int(value), _MAX_RETRY_AFTER_S) * 1000) if value.isdecimal() and len(value) < 10 else None

    def _failed(self, what: str, reason: str) -> ModelFailed:
        return ModelFailed(f"the model endpoint {self._url} {what}", reason=reason)


_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


def _parsed(base_url: str) -> tuple[bool, str, int, str]:
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"model url {base_url!r} is not a URL ({error})") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"model url {base_url!r} must be http[s]://host[:port][/prefix]")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("the model url must not carry credentials, a query or a fragment; use api_key for a key")
    if not parts.path.isascii() or any(char <= " " for char in parts.path):
        raise ConfigError(f"the path of model url {base_url!r} must be percent-encoded")
    secure = parts.scheme == "https"
    return secure, parts.hostname, port or (443 if secure else 80), parts.path.rstrip("/")


def _header_lines(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if not value.isprintable() or not name.replace("-", "").isalnum() or not (name + value).isascii():
            raise ConfigError(f"header {name[:40]!r} holds characters that HTTP does not allow")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
