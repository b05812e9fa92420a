"""The HTTP application over the small engine of `double.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laneway.actors.ports import Principal
from laneway.engine.edge.answer import SingleAnswers
from laneway.engine.edge.asgi import Asgi, Endpoint, SocketEndpoint
from laneway.engine.edge.entrance import Handshake, OpenByGet, OpenByPost, ToolList
from laneway.engine.edge.hosting import Hosting
from laneway.engine.edge.jsonframes import JsonFrames
from laneway.engine.edge.origins import Origins
from laneway.engine.edge.posts import GrantPost, SendPost
from laneway.engine.edge.sockets import SUBPROTOCOLS, SessionSocket
from laneway.engine.edge.sse import EventLinks, EventStreams
from laneway.engine.edge.stream import StreamPolicy
from laneway.engine.edge.streams import Streams
from laneway.engine.edge.tickets import Tickets
from laneway.engine.frames import Frames
from laneway.engine.limits import DEFAULT_LIMITS
from laneway.routing.errors import Unauthenticated
from tests.engine.edge.double import KINDS, Engine

JSON = {"content-type": "application/json"}
EVENTS = {**JSON, "accept": "text/event-stream"}


def by_name(metadata: Mapping[str, str]) -> Principal:
    """Whoever says a name is that one."""
    name = metadata.get("authorization", "")
    if not name:
        raise Unauthenticated("say a name")
    return Principal(name)


class Stage:
    """An application and what is behind it."""

    def __init__(self, engine: Engine | None = None, **policy: Any) -> None:
        self.engine = engine or Engine()
        self.streams = Streams(100, 50)
        self.tickets = Tickets(self.engine.clock)
        self.links = EventLinks()
        frames = JsonFrames(KINDS, self.engine.clock)
        hosting = Hosting(self.engine, self.engine.clock, self.streams, StreamPolicy(**policy))
        events = EventStreams(hosting, frames, self.links)
        offers = Handshake(self.engine.policy, DEFAULT_LIMITS, self.tickets, frozenset({"/v1/stream"}))
        self.app = Asgi(
            [
                Endpoint("GET", "/v1/stream", OpenByGet(events)),
                Endpoint("POST", "/v1/stream", OpenByPost(events, SingleAnswers(hosting, frames), frames)),
                Endpoint("POST", "/v1/stream/{link}/grant", GrantPost(self.links)),
                Endpoint("POST", "/v1/stream/{link}/send", SendPost(self.engine, frames, self.links)),
                Endpoint("POST", "/v1/handshake", offers),
                Endpoint("GET", "/v1/tools", ToolList(self.engine)),
            ],
            [
                SocketEndpoint(
                    "/v1/stream", SessionSocket(hosting, Frames(KINDS, self.engine.clock.now), frames), SUBPROTOCOLS
                )
            ],
            tickets=self.tickets,
            origins=Origins(local=True),
            streams=self.streams,
            authenticate=by_name,
        )
