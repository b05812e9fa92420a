"""One event of a front in a cell of this host: whose it is, what was said before it, and the way back.

Law of this file: everything about a delivery goes by one stream, so that its order holds; which one,
the event's urgency says. Once the delivery is over, or its front is lost, nothing more is sent.
"""

from __future__ import annotations

from typing import Any

import msgpack

from laneway.actors.endings import failed
from laneway.actors.hosts.emissions import Emissions
from laneway.actors.hosts.peers import DONE, Message, Peer
from laneway.actors.ports import Outcome, Principal
from laneway.routing.envelope import LANE, Envelope
from laneway.routing.errors import HandlerFailed, LocalProtocolError, PeerProtocolError
from laneway.routing.lanes import Lane

__all__ = ["Delivery", "principal_of"]


class Delivery:
    """A delivery that is not over.

    Args:
        front: the connection it came by. number: the front's.
        history: packed AG-UI messages said before it, or None.

    Attributes:
        emissions: what its handler says; set by who makes it.
    """

    __slots__ = ("_history", "emissions", "env", "front", "number", "principal", "urgent")

    def __init__(self, front: Peer, number: int, env: Envelope, principal: Principal, history: bytes | None) -> None:
        self.front = front
        self.number = number
        self.env = env
        self.principal = principal
        self.urgent = env[LANE] == Lane.CRITICAL
        self.emissions: Emissions
        self._history = history

    def send(self, message: Message) -> None:
        """Send something about it, after what its handler has said so far."""
        self.emissions.flush()
        self.post(message)

    def post(self, message: Message) -> None:
        """Put a message on its stream."""
        self.front.send(message, urgent=self.urgent)

    def done(self, outcome: Outcome) -> None:
        """Tell how it ended; an outcome that no message can carry is a failure."""
        try:
            self.send(_done(self.number, outcome))
        except LocalProtocolError as error:
            self.send(_done(self.number, failed(HandlerFailed(f"its outcome cannot travel: {error.message}"))))

    def history(self) -> list[dict[str, Any]]:
        """Return the messages said before it, oldest first. O(bytes). Raises PeerProtocolError if they are none."""
        if self._history is None:
            return []
        try:
            messages = msgpack.unpackb(self._history)
        except (ValueError, TypeError) as error:
            raise PeerProtocolError(f"the history of delivery {self.number} cannot be read: {error}") from error
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise PeerProtocolError(f"the history of delivery {self.number} is no list of messages")
        return messages


def _done(number: int, outcome: Outcome) -> Message:
    return (DONE, number, outcome.status, outcome.value, outcome.code, outcome.message, outcome.retryable)


def principal_of(fields: object) -> Principal:
    """Return the principal that travelled as [subject, tenant, scopes, expires_at].

    Raises PeerProtocolError if it is none.
    """
    if not isinstance(fields, list | tuple) or len(fields) != 4 or not isinstance(fields[2], list | tuple):
        raise PeerProtocolError("a principal is told as [subject, tenant, scopes, expires_at]")
    subject, tenant, scopes, expires_at = fields
    return Principal(str(subject), str(tenant), frozenset(map(str, scopes)), expires_at)
