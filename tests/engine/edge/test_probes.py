"""Alive and ready."""

from __future__ import annotations

import asyncio

from laneway.engine.edge.asgi import Endpoint
from laneway.engine.edge.probes import Alive, Ready
from laneway.engine.edge.streams import Streams
from laneway.routing.errors import LanewayError, StoreUnavailable
from tests.engine.edge.driver import app, ask


def test_alive_whatever_happens_ready_only_without_trouble() -> None:
    """The reason stands in the answer, with a status that load balancers understand."""
    trouble: list[LanewayError | None] = [None]

    async def main() -> None:
        streams = Streams(1, 1)
        ready = Endpoint("GET", "/readyz", Ready(streams, lambda: trouble[0]), public=True)
        served = app(Endpoint("GET", "/healthz", Alive(), public=True), ready, streams=streams)
        assert (await ask(served, "GET", "/readyz")).status == 200
        trouble[0] = StoreUnavailable("the log cannot be written", retry_after_ms=1000)
        answer = await ask(served, "GET", "/readyz")
        assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "STORE_UNAVAILABLE", "1")
        trouble[0] = None
        await served.drain(0.0)
        answer = await ask(served, "GET", "/readyz")
        assert (answer.status, answer.json["code"]) == (503, "DRAINING")
        assert (await ask(served, "GET", "/healthz")).body == b"ok\n"

    asyncio.run(main())
