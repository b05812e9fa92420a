"""What operators ask over HTTP: is it alive, is it ready, what does it measure.

Law of this file: alive means that this process answers, and nothing more, so that nobody restarts
an engine for what its store does; ready means that a client sent here would be served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from laneway.engine.edge.exchange import Exchange
from laneway.engine.edge.streams import Streams
from laneway.routing.errors import AccessError, LanewayError

__all__ = ["Alive", "Metrics", "Ready"]

_TEXT: Final = {"content-type": "text/plain; charset=utf-8"}
_METRICS: Final = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}


class Alive:
    """`GET /healthz`."""

    async def __call__(self, exchange: Exchange) -> None:
        """Answer 200, always."""
        await exchange.respond(200, _TEXT, b"ok\n")


class Ready:
    """`GET /readyz`.

    Args:
        trouble: returns why the engine cannot serve now, or None.
    """

    def __init__(self, streams: Streams, trouble: Callable[[], LanewayError | None]) -> None:
        self._streams = streams
        self._trouble = trouble

    async def __call__(self, exchange: Exchange) -> None:
        """Answer 200, or the error with its status (503)."""
        if self._streams.draining:
            raise self._streams.going_away()
        trouble = self._trouble()
        if trouble is not None:
            raise trouble
        await exchange.respond(200, _TEXT, b"ready\n")


class Metrics:
    """`GET /metrics`, for Prometheus: scope admin.

    Args:
        read: returns the text.
    """

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    async def __call__(self, exchange: Exchange) -> None:
        """Answer 200 with the text. Raises AccessError."""
        if "admin" not in exchange.principal.scopes:
            raise AccessError("the metrics need the scope `admin`")
        await exchange.respond(200, _METRICS, self._read().encode())
