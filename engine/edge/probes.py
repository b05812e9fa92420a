"""What operators ask over HTTP: is it alive, is it ready, what does it measure.

Law of this file: alive means that this process answers, and nothing more, so that nobody restarts
an engine for what its store does; ready means that a client sent here would be served.
An overloaded engine stays ready, and says so: it tells whom it turns away when to come back, and to take
it out of a balancer would put its load on the next one.
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
        level: returns its level of overload, 0 to 3.
    """

    def __init__(
        self, streams: Streams, trouble: Callable[[], LanewayError | None], level: Callable[[], int] = lambda: 0
    ) -> None:
        self._streams = streams
        self._trouble = trouble
        self._level = level

    async def __call__(self, exchange: Exchange) -> None:
        """Answer 200, or the error with its status (503)."""
        if self._streams.draining:
            raise self._streams.going_away()
        trouble = self._trouble()
        if trouble is not None:
            raise trouble
        level = self._level()
        await exchange.respond(200, _TEXT, b"ready, overload level %d\n" % level if level else b"ready\n")


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
