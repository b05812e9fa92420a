"""What an edge needs of the engine behind it, as Protocols owned here.

Law of this file: an edge moves frames and knows who is speaking; sessions, order, credit and
resume are behind these methods, so that every wire gets the same guarantees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from laneway.actors.ports import Principal
from laneway.actors.sessions.arrivals import Speaker
from laneway.actors.spans import SpanValue
from laneway.routing.envelope import Envelope
from laneway.routing.errors import LanewayError
from laneway.routing.handshake import Hello

if TYPE_CHECKING:
    from laneway.routing.link import LinkFrame

__all__ = ["Attachment", "Gateway"]


class Attachment(Protocol):
    """One client's live link, seen from its wire."""

    async def receive(self, header: Mapping[str, object], envelopes: Sequence[Envelope]) -> None:
        """Take one frame in; may wait for room. Raises PeerProtocolError if it breaks the contract."""
        ...

    async def frames(self) -> list[LinkFrame]:
        """Wait for the frames due now. Raises the LanewayError that closed the link, after the last one."""
        ...

    async def close(self, error: LanewayError | None = None) -> None:
        """Leave; idempotent. With `error`, `frames` gives what is still due and then raises it."""
        ...


class Gateway(Protocol):
    """The engine, as an edge sees it."""

    async def attach(self, hello: Hello, principal: Principal, origin: Mapping[str, SpanValue] = {}) -> Attachment:
        """Open or resume a link. `origin`: what the spans of its events say about the wire.

        Raises a LanewayError: refused, unknown, draining, not allowed.
        """
        ...

    async def ingest(self, session: str, speaker: Speaker, envelopes: Sequence[Envelope]) -> None:
        """Take events in for a session of the speaker's tenant; each is answered by `speaker.tell`.

        Raises a LanewayError if the session cannot be opened.
        """
        ...

    async def call(self, name: str, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        """Answer one unary question with plain data. Raises a LanewayError; an unknown name is a PeerProtocolError."""
        ...
