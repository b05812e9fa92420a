"""How clients and code come to sessions, wherever those are at home: the port in front of all of them.

Law of this file: one way in. An edge, an embedded session, a publication and a document ask here and
nowhere else, so that none of them knows whether a session is at home in this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from laneway.actors.ports import Principal
from laneway.actors.sessions.arrivals import Speaker
from laneway.actors.spans import SpanValue
from laneway.routing.envelope import Envelope
from laneway.routing.errors import LanewayError
from laneway.routing.handshake import Hello
from laneway.routing.link import LinkFrame

__all__ = ["Entry", "Joined"]


class Joined(Protocol):
    """One client's link to its session."""

    @property
    def live(self) -> bool:
        """True until the link is closed."""
        ...

    async def receive(self, header: Mapping[str, object], envelopes: Sequence[Envelope]) -> None:
        """Take one frame of the client; may wait for room. Raises PeerProtocolError if it breaks the contract."""
        ...

    async def frames(self) -> list[LinkFrame]:
        """Wait for the frames due now. Raises the LanewayError that ended the link, after the last one."""
        ...

    async def close(self, error: LanewayError | None = None) -> None:
        """Leave; idempotent. With `error`, `frames` gives what is still due and then raises it."""
        ...


class Entry(Protocol):
    """The sessions of an engine: implemented by `SessionDirectory` for one front, by `Fronts` for several."""

    async def attach(self, hello: Hello, principal: Principal, origin: Mapping[str, SpanValue] = {}) -> Joined:
        """Open or resume a link. `origin`: what the spans of its events say about the wire.

        Raises a LanewayError: refused, draining, not allowed, the store is away.
        """
        ...

    async def ingest(self, session: str, speaker: Speaker, envelopes: Sequence[Envelope]) -> None:
        """Take events in beside a link, for a session of the speaker's tenant; answers go to `speaker.tell`.

        Raises a LanewayError if the session cannot be reached; then some events may have been taken, and
        sending them again with the same counters is harmless.
        """
        ...

    async def publish(self, tenant: str, topic: str, body: bytes, trace: str = "") -> int:
        """Send a PUBLISH event to every session that listens; returns how many took it."""
        ...

    async def redrive(self, env: Envelope) -> None:
        """Dispatch an event again that was given up. Raises the refusal."""
        ...

    def resumable(self, error: LanewayError) -> bool:
        """Whether a link that ended so goes on if it is attached again, with its cursor."""
        ...
