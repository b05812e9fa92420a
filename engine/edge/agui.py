"""``POST /agui``: runs for unmodified AG-UI clients, as server-sent events.

Law of this file: whatever is refused is refused with an HTTP status before RUN_STARTED; once the
answer has begun it ends with the run's end, or the connection is reset, because a stock client
takes a stream that merely ends for success. A lost connection is not a cancel: the run goes on, and
the same request again (with `Last-Event-ID`, or from its beginning) listens to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from laneway.engine.codec import valid_id
from laneway.engine.edge.agui_input import read_run
from laneway.engine.edge.agui_link import RunLink
from laneway.engine.edge.agui_output import parse_place
from laneway.engine.edge.asgi import Endpoint
from laneway.engine.edge.exchange import Exchange
from laneway.engine.edge.gateway import Gateway
from laneway.engine.edge.streams import Streams
from laneway.routing.errors import LanewayError, PeerProtocolError, SlowConsumer
from laneway.routing.traceparent import parse

__all__ = ["AguiCapabilities", "AguiPolicy", "AguiRuns", "agui_endpoints"]

_PING: Final = b": ping\n\n"
_HEADERS: Final = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
_ON_DISCONNECT: Final = ("continue", "cancel")


@dataclass(frozen=True, slots=True)
class AguiPolicy:
    """How runs are served.

    Attributes:
        agents: names that ``/agui/{agent}`` takes; empty = any id.
        on_disconnect: "continue": the run goes on without its client; "cancel": it is interrupted. A
            request may ask for either with ``?on_disconnect=``.
        ping_s: silence after which a comment keeps the connection open.
        stall_s: how long one write may wait for a client that does not read.
    """

    agents: tuple[str, ...] = ()
    on_disconnect: str = "continue"
    ping_s: float = 10.0
    stall_s: float = 30.0


def agui_endpoints(gateway: Gateway, streams: Streams, policy: AguiPolicy) -> list[Endpoint]:
    """Return what is served below ``/agui``."""
    runs = AguiRuns(gateway, streams, policy)
    return [
        Endpoint("POST", "/agui", runs),
        Endpoint("POST", "/agui/{agent}", runs),
        Endpoint("GET", "/agui", _explain),
        Endpoint("GET", "/agui/capabilities", AguiCapabilities(policy.agents)),
    ]


class AguiRuns:
    """The route of ``POST /agui`` and ``POST /agui/{agent}``.

    Args:
        streams: the edge's book of live streams.
    """

    def __init__(self, gateway: Gateway, streams: Streams, policy: AguiPolicy = AguiPolicy()) -> None:
        self._gateway = gateway
        self._streams = streams
        self._policy = policy

    async def __call__(self, exchange: Exchange) -> None:
        """Run what was posted and stream it. Raises what refuses it."""
        agent = exchange.params.get("agent", "")
        if agent and not self._known(agent):
            names = ", ".join(self._policy.agents) or "any id of A-Z a-z 0-9 _ . : -"
            raise PeerProtocolError(f"there is no agent {agent[:80]!r} here; there is: {names}", reason="NO_ROUTE")
        cancels = self._cancels(exchange.query)
        last = exchange.headers.get("last-event-id", "")
        place = parse_place(last) if last else None
        asked = read_run(await exchange.body(), agent=agent, limits=exchange.limits)
        trace = parse(exchange.headers.get("traceparent", ""))
        link = RunLink(self._gateway, asked, exchange.principal, place, str(trace or ""))
        answer = _Answer(exchange, link, self._policy)
        with self._streams.hold(answer, exchange.principal) as connection:
            try:
                await link.open()
                connection.established = True
                await answer.stream()
            except ConnectionError:  # the client is gone
                if cancels:
                    await link.cancel()
                raise
            finally:
                await link.close()

    def _known(self, agent: str) -> bool:
        return agent in self._policy.agents if self._policy.agents else valid_id(agent)

    def _cancels(self, query: Mapping[str, str]) -> bool:
        wish = query.get("on_disconnect", self._policy.on_disconnect)
        if wish not in _ON_DISCONNECT:
            raise PeerProtocolError(f"on_disconnect is one of {', '.join(_ON_DISCONNECT)}", reason="BAD_TYPE")
        return wish == "cancel"


class _Answer:
    """One answer on its way; a `streams.Live`."""

    def __init__(self, exchange: Exchange, link: RunLink, policy: AguiPolicy) -> None:
        self._exchange = exchange
        self._link = link
        self._policy = policy
        self._over: asyncio.Future[LanewayError | None] = asyncio.get_running_loop().create_future()

    def tell(self, error: LanewayError) -> None:
        """There are no notices in AG-UI."""

    def end(self, error: LanewayError | None) -> None:
        """End from outside: the connection is reset, and the client may come back to the run."""
        if not self._over.done():
            self._over.set_result(error)

    async def stream(self) -> None:
        """Send the run to its end.

        Raises ConnectionError if the client left, and the LanewayError that ended the link: the
        application resets the connection then.
        """
        exchange = self._exchange
        gone = exchange.disconnected
        await exchange.start_stream(200, _HEADERS)
        reading: asyncio.Task[bytes] | None = None
        try:
            while not self._link.over:
                reading = reading or asyncio.create_task(self._link.read())
                waits: set[asyncio.Future[Any]] = {reading, gone, self._over}
                await asyncio.wait(waits, timeout=self._policy.ping_s, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise ConnectionError("the client left")
                if reading.done():
                    data, reading = reading.result(), None
                    await self._send(exchange.send(data) if data else None)
                elif self._over.done():
                    raise self._over.result() or SlowConsumer("the edge closes; ask again to go on")
                else:
                    await self._send(exchange.send(_PING))
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _send(self, sending: Awaitable[None] | None) -> None:
        if sending is None:
            return
        try:
            async with asyncio.timeout(self._policy.stall_s):
                await sending
        except TimeoutError as error:
            raise SlowConsumer(f"nothing was read for {self._policy.stall_s:g} s; ask again to go on") from error


async def _explain(exchange: Exchange) -> None:
    """Answer ``GET /agui``: say how a run is asked for."""
    exchange.add_headers({"allow": "POST"})
    raise PeerProtocolError(
        "a run is asked for with POST and an AG-UI RunAgentInput as JSON: make this the `url` of an AG-UI client",
        reason="METHOD",
    )


class AguiCapabilities:
    """The route of ``GET /agui/capabilities``: AG-UI's AgentCapabilities.

    Args:
        agents: as in AguiPolicy.
    """

    def __init__(self, agents: tuple[str, ...] = ()) -> None:
        self._document = _capabilities(agents)

    async def __call__(self, exchange: Exchange) -> None:
        """Answer."""
        await exchange.reply(self._document)


def _capabilities(agents: tuple[str, ...]) -> dict[str, Any]:
    """Only what this edge itself decides; what the model can do is not known here."""
    return {
        "identity": {"name": "laneway", "type": "laneway"},
        "transport": {
            "streaming": True,
            "websocket": False,
            "httpBinary": False,
            "pushNotifications": False,
            "resumable": True,
        },
        "tools": {"supported": True, "clientProvided": True},
        "state": {"snapshots": True, "deltas": True},
        "humanInTheLoop": {"supported": True, "interrupts": True},
        "custom": {"resume": "Last-Event-ID", "onDisconnect": list(_ON_DISCONNECT), "agents": list(agents)},
    }
