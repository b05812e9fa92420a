"""Two hosts in one process: switchboards joined by an in-memory connection that can be slow, or break."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

import msgpack

from laneway.actors.hosts.peers import Message
from laneway.actors.hosts.switchboard import Switchboard
from laneway.routing.errors import LanewayError, LocalProtocolError, RuntimeUnavailable

__all__ = ["End", "connect"]

_MESSAGE_BYTES = 4_259_840
"""As over a wire: `PeerPolicy.message_bytes`."""


class End:
    """One side's Peer. Messages travel packed, as over a wire; `hold` keeps a stream's messages back."""

    def __init__(self, name: str, incarnation: str) -> None:
        self.name, self.incarnation, self.alive = name, incarnation, True
        self.other: End
        self.board: Switchboard
        self.sent: list[Message] = []
        self._queues: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self._held = [False, False]

    def send(self, message: Message, *, urgent: bool = False) -> None:
        if self.alive:
            try:
                packed = msgpack.packb(message)
            except (TypeError, ValueError) as error:
                raise LocalProtocolError(f"a message cannot be packed: {error}") from error
            if len(packed) > _MESSAGE_BYTES:
                raise LocalProtocolError(f"a message of {len(packed)} bytes is above {_MESSAGE_BYTES}")
            self.sent.append(message)
            self._queues[urgent].append(packed)
            asyncio.get_running_loop().call_soon(self._carry, urgent)

    def hold(self, *, urgent: bool = False) -> None:
        """Keep what this side sends by one stream back, until `let_go`."""
        self._held[urgent] = True

    def let_go(self, *, urgent: bool = False) -> None:
        self._held[urgent] = False
        for _ in self._queues[urgent]:
            asyncio.get_running_loop().call_soon(self._carry, urgent)

    def _carry(self, urgent: bool) -> None:
        if self.alive and self._queues[urgent] and not self._held[urgent]:
            message = tuple(msgpack.unpackb(self._queues[urgent].popleft()))
            self.other.board.received(self.other, message)

    def close(self, error: LanewayError) -> None:
        for end in (self, self.other):
            if end.alive:
                end.alive = False
                asyncio.get_running_loop().call_soon(end.board.lost, end, error)

    def cut(self) -> None:
        """Break the connection as a dying host does."""
        self.close(RuntimeUnavailable(f"the connection to {self.name} broke"))


def connect(
    left: Switchboard, right: Switchboard, *names: str, incarnation: str = "1", lives: Mapping[str, str] = {}
) -> tuple[End, End]:
    """Join two hosts; returns (left's peer, right's peer). `names`: of left and of right.

    `lives`: the incarnation by name, where it is another than `incarnation`.

    Left's peer is named after right, and the other way round.
    """
    of_left, of_right = names or ("left", "right")
    mine, theirs = (End(name, lives.get(name, incarnation)) for name in (of_right, of_left))
    mine.other, theirs.other = theirs, mine
    mine.board, theirs.board = left, right
    left.connected(mine)
    right.connected(theirs)
    return mine, theirs
