"""One HTTP exchange: what a route is given to read the request and to answer.

Law of this file: a body is read once, within a byte limit and a deadline; an answer is begun once;
what goes wrong before that becomes one JSON object of our error shape with the status of
`status.py`. Every answer carries the headers that keep browsers from guessing, framing or caching.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol, TypeAlias

from laneway.actors.ports import Principal
from laneway.engine.codec import decode_json
from laneway.engine.edge.request import Request
from laneway.engine.edge.status import retry_after_s, wire_status
from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.routing.errors import LanewayError, PeerProtocolError

__all__ = ["ABORT", "Exchange", "Receive", "Route", "Scope", "Send", "error_document"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ABORT: Final = "laneway.abort"
"""Scope extension of our own server: a function that resets the connection."""

_SAFETY: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_JSON: Final = "application/json"
_LAST_S: Final = 1.0
_NOBODY: Final = Principal("")


class Route(Protocol):
    """What answers requests of one method and path."""

    async def __call__(self, exchange: Exchange) -> None:
        """Answer. A LanewayError raised before the answer began becomes the answer."""
        ...


class Exchange:
    """A request and its answer.

    Args:
        request: checked already.
        receive, send: ASGI callables.
        limits: of JSON documents.
        body_s: how long a body may take.
        abort: resets the connection; None if the server has no such thing.
        refused: told of the error that is the answer.

    Attributes:
        limits: of its body.
        principal: who asks; set by the application before the route is called.
        started: the answer has begun.
    """

    def __init__(
        self,
        request: Request,
        receive: Receive,
        send: Send,
        *,
        limits: Limits = DEFAULT_LIMITS,
        body_s: float = 30.0,
        abort: Callable[[], None] | None = None,
        refused: Callable[[LanewayError], None] | None = None,
    ) -> None:
        self.request = request
        self.principal = _NOBODY
        self.started = False
        self._receive = receive
        self._send = send
        self.limits = limits
        self._body_s = body_s
        self._abort = abort
        self._refused = refused
        self._body: bytes | None = None
        self._extra: dict[str, str] = {}
        self._finished = False
        self._gone: asyncio.Future[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def method(self) -> str:
        """Upper case."""
        return self.request.method

    @property
    def path(self) -> str:
        """Below the mount point."""
        return self.request.path

    @property
    def params(self) -> Mapping[str, str]:
        """What the path's placeholders matched."""
        return self.request.params

    @property
    def query(self) -> Mapping[str, str]:
        """Name -> first value."""
        return self.request.query

    @property
    def headers(self) -> Mapping[str, str]:
        """Lower-case name -> value."""
        return self.request.headers

    @property
    def trace(self) -> str:
        """W3C traceparent as it came, or empty."""
        return self.headers.get("traceparent", "")

    @property
    def disconnected(self) -> asyncio.Future[None]:
        """Done once the client is gone. Read the body first: from then on whatever comes is dropped."""
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
            self._watching = asyncio.create_task(self._watch(self._gone))
        return self._gone

    # ---- in -----------------------------------------------------------------------------------

    async def body(self) -> bytes:
        """Return the whole body; may be called again.

        Raises PeerProtocolError: TOO_LARGE, SLOW_BODY, or ENCODED (compressed); ConnectionError if
        the client left.
        """
        if self._body is None:
            most = self.limits.body_bytes
            self._check_head(most)
            try:
                async with asyncio.timeout(self._body_s):
                    self._body = await self._read(most)
            except TimeoutError as error:
                raise PeerProtocolError(
                    f"the body did not come within {self._body_s:g} s", reason="SLOW_BODY"
                ) from error
        return self._body

    async def json(self) -> Any:
        """Return the body as JSON. Raises PeerProtocolError: UNSUPPORTED_MEDIA, or what `body` and the decoder say."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _JSON:
            raise PeerProtocolError(
                f"the body must be {_JSON}, say so in content-type (it was {kind[:80]!r})", reason="UNSUPPORTED_MEDIA"
            )
        return decode_json(await self.body(), self.limits)

    def _check_head(self, most: int) -> None:
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise PeerProtocolError("compressed bodies are not taken; send it as it is", reason="ENCODED")
        length = self.headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > most:
            raise _too_large(most)

    async def _read(self, most: int) -> bytes:
        parts, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client left before its body was complete")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise _too_large(most)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _watch(self, gone: asyncio.Future[None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not gone.done():
            gone.set_result(None)

    # ---- out ----------------------------------------------------------------------------------

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Add headers to the answer, whatever it will be."""
        self._extra.update(headers)

    async def respond(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Answer in one piece. A header given here replaces the default one of its (lower-case) name."""
        fields = dict(headers or {})
        if status not in (204, 304):
            fields["content-length"] = str(len(body))
        await self.start_stream(status, fields)
        self._finished = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def reply(self, document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer with one JSON document."""
        from pydantic_core import to_json

        await self.respond(status, {"content-type": _JSON, **(headers or {})}, to_json(document))

    async def start_stream(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Begin an answer whose parts are given to `send`; end it with `finish`."""
        if self.started:
            raise RuntimeError("an exchange is answered once")
        self.started = True
        fields = {**_SAFETY, **self._extra, **(headers or {})}
        await self._send({"type": "http.response.start", "status": status, "headers": _encoded(fields.items())})

    async def send(self, data: bytes) -> None:
        """Send one part; waits while the client does not read. Raises ConnectionError when it is gone."""
        if self._gone is not None and self._gone.done():
            raise ConnectionError("the client is gone")
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        """End the stream; a client that does not read it is cut off."""
        if self._finished or not self.started:
            return
        self._finished = True
        try:
            async with asyncio.timeout(_LAST_S):
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Reset the connection, if the server can."""
        if self._abort is not None:
            self._abort()

    async def fail(self, error: LanewayError, more: Mapping[str, Any] | None = None) -> None:
        """Answer with an error; `more` are further keys of its document."""
        if self._refused is not None:
            self._refused(error)
        headers = {}
        if (delay_s := retry_after_s(error)) is not None:
            headers["retry-after"] = str(delay_s)
        status = wire_status(error).http
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        await self.reply({**error_document(error), **(more or {})}, status, headers)

    async def close(self) -> None:
        """Stop watching; the application calls it when the route has returned."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)


def error_document(error: LanewayError) -> dict[str, Any]:
    """Return our error shape: what every error answer and every refused event carries."""
    return {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "retryable": error.retryable,
        "retry_after_ms": error.retry_after_ms,
    }


def _too_large(most: int) -> PeerProtocolError:
    return PeerProtocolError(f"the body is over the limit of {most} bytes; send less at once", reason="TOO_LARGE")


def _encoded(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
