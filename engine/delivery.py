"""What an application gets: one event, with its meaning unpacked when asked for.

Law of this file: nothing is decoded before somebody looks, and a body that cannot be decoded shows
as an error at the attribute, not as a lost event. The same class comes out of a `Client` and of a
session inside the engine's process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from laneway.routing.envelope import BODY, KIND, SEAL, EnvelopeView
from laneway.routing.inbox import SNAPSHOT, Received

__all__ = ["Event"]

_TEXT: Final = frozenset({"TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS"})
_ENDS: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})


class Event(EnvelopeView):
    """One event of a session: an envelope (`kind`, `run`, `entity`, `body`, ...), and its AG-UI form.

    Adjacent text deltas of one message may come as one event; the text is the same.

    Attributes:
        received: the wire item: stream, seqs, gap.
    """

    __slots__ = ("received",)

    def __init__(self, received: Received) -> None:
        super().__init__(received.envelope)
        self.received = received

    @property
    def text(self) -> str:
        """The delta of a text, reasoning or arguments event; empty for all others."""
        env = self.raw
        if env[KIND] not in _TEXT:
            return ""
        body = env[BODY]
        if body and body[0] == SEAL:
            return str(self.data.get("delta", ""))
        return body.decode("utf-8", "replace")

    @property
    def data(self) -> Mapping[str, Any]:
        """The event as an AG-UI dict, `type` included. Raises PeerProtocolError if the body is not one."""
        from laneway.engine.events import from_envelope

        return from_envelope(self.raw)

    @property
    def ends_run(self) -> bool:
        """True for RUN_FINISHED and RUN_ERROR."""
        return self.raw[KIND] in _ENDS

    @property
    def snapshot(self) -> bool:
        """True for what replaces events that could not be replayed (a new or failed resume)."""
        return self.received.stream == SNAPSHOT

    @property
    def dropped(self) -> Mapping[str, int]:
        """For a GAP: kind -> how many events it stands for; otherwise empty."""
        return self.received.gap.by_kind if self.received.gap is not None else {}
