"""What an application gets: one event, with its meaning unpacked when asked for.

Law of this file: nothing is decoded before somebody looks, and a body that cannot be decoded shows
as an error at the attribute, not as a lost event.
"""

from __future__ import annotations

from typing import Any, Final

from laneway.engine.codec import unpack_body
from laneway.engine.events import from_envelope
from laneway.routing.envelope import BODY, ENTITY, KIND, RUN, SEAL, Envelope, EnvelopeView
from laneway.routing.inbox import SNAPSHOT, Received

__all__ = ["Event"]

_TEXT: Final = frozenset({"TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS"})
_ENDS: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})


class Event:
    """One event of a session, as the application sees it.

    Attributes:
        received: the wire item: stream, seqs, gap.
    """

    __slots__ = ("_env", "received")

    def __init__(self, received: Received) -> None:
        self.received = received
        self._env: Envelope = received.envelope

    @property
    def type(self) -> str:
        """AG-UI type, or the kind's name."""
        return self._env[KIND]

    @property
    def run(self) -> str:
        """Run id, or empty."""
        return self._env[RUN]

    @property
    def entity(self) -> str:
        """Message, tool call, document or topic id, or empty."""
        return self._env[ENTITY]

    @property
    def body(self) -> bytes:
        """The body as it travelled."""
        return self._env[BODY]

    @property
    def envelope(self) -> EnvelopeView:
        """The whole envelope."""
        return EnvelopeView(self._env)

    @property
    def text(self) -> str:
        """The delta of a text, reasoning or arguments event; empty for others."""
        if self._env[KIND] not in _TEXT:
            return ""
        body = self._env[BODY]
        if body and body[0] == SEAL:
            return str(unpack_body(body[1:]).get("delta", ""))
        return body.decode("utf-8", "replace")

    @property
    def data(self) -> dict[str, Any]:
        """The event as an AG-UI dict. Raises PeerProtocolError if the body is not one."""
        return from_envelope(self._env)

    @property
    def snapshot(self) -> bool:
        """True if it replaces what could not be replayed."""
        return self.received.stream == SNAPSHOT

    @property
    def ends_run(self) -> bool:
        """True for RUN_FINISHED and RUN_ERROR."""
        return self._env[KIND] in _ENDS

    def __repr__(self) -> str:
        return f"<Event {self.type} seq={self.received.first} run={self.run!r} {len(self.body)}B>"
