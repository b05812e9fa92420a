"""What waits to be written to one stream.

Law of this file: whoever queues never waits; the one writer takes all that is queued as one frame, up
to a bound, so that batches form by themselves while a write is under way.
"""

from __future__ import annotations

import asyncio
from collections import deque

from laneway.engine.peer.frames import join

__all__ = ["Outbound"]


class Outbound:
    """A queue of packed messages, in order; its owner bounds it.

    Args:
        frame_bytes, frame_messages: a frame is closed at the first of them.

    Attributes:
        queued_bytes: waiting. wake: set when there is something to take, or the owner wants to be seen.
    """

    __slots__ = ("_frame_bytes", "_frame_messages", "_messages", "queued_bytes", "wake")

    def __init__(self, frame_bytes: int, frame_messages: int) -> None:
        self._frame_bytes = frame_bytes
        self._frame_messages = frame_messages
        self._messages: deque[bytes] = deque()
        self.queued_bytes = 0
        self.wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: bytes) -> None:
        """Queue a packed message."""
        self._messages.append(message)
        self.queued_bytes += len(message)
        self.wake.set()

    def take(self) -> bytes:
        """Return the next frame; at least one message waits. At most linear in the frame's messages."""
        messages = self._messages
        if self.queued_bytes <= self._frame_bytes and len(messages) <= self._frame_messages:
            frame = join(messages)
            self.clear()
            return frame
        taken: list[bytes] = []
        size = 0
        while messages and size < self._frame_bytes and len(taken) < self._frame_messages:
            taken.append(messages.popleft())
            size += len(taken[-1])
        self.queued_bytes -= size
        return join(taken)

    def clear(self) -> None:
        """Forget all that waits."""
        self._messages.clear()
        self.queued_bytes = 0
