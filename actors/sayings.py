"""What the handler of one delivery says on another host, on its way into the session, in order.

Law of this file: what was said is taken by the session in the order in which it was said, each event
once, and nothing after the delivery is over. What waits is bounded: a host may run ahead of what was
acknowledged by its window and one event; one that sends more does not keep the rules, and its
connection ends.

One task takes what there is and ends with it, so a delivery that says nothing costs none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from laneway.actors.ports import Outlet
from laneway.routing.envelope import Envelope
from laneway.routing.errors import HandlerFailed, LanewayError, PeerProtocolError

__all__ = ["Sayings"]

_WINDOW_BYTES: Final = 65_536
"""How far a host's handler runs ahead before it waits."""
_EVENT_BYTES: Final = 1_310_720
"""One event more is always possible: the largest body is 1 MiB, and what is critical does not wait."""
_TELL_BYTES: Final = 16_384
"""Taken bytes are acknowledged when nothing waits, or at a quarter of the window: it never closes for long."""


class Sayings:
    """Events of one delivery that the session has yet to take. Lives on one event loop.

    Args:
        spawn: runs a coroutine as a task that somebody awaits in the end.
        told: called with the bytes taken since the beginning, and why no more will be (or None).
        quiet: called when everything was taken, or nothing more will be.

    Attributes:
        error: why the session takes no more, or None.
    """

    __slots__ = (
        "_heard",
        "_name",
        "_outlet",
        "_quiet",
        "_spawn",
        "_taken",
        "_task",
        "_told",
        "_told_at",
        "_waiting",
        "error",
    )

    def __init__(
        self,
        name: str,
        outlet: Outlet,
        *,
        spawn: Callable[..., asyncio.Task[None]],
        told: Callable[[int, LanewayError | None], None],
        quiet: Callable[[], None],
    ) -> None:
        self.error: LanewayError | None = None
        self._name = name
        self._outlet = outlet
        self._spawn = spawn
        self._told = told
        self._quiet = quiet
        self._waiting: deque[tuple[list[Envelope], int]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._heard = self._taken = self._told_at = 0

    @property
    def busy(self) -> bool:
        """True while something waits or is being taken."""
        return self._task is not None

    def add(self, envs: Sequence[Envelope], size: int) -> None:
        """Take note of what was said, `size` bytes on the wire. Raises PeerProtocolError beyond the window."""
        if self.error is not None:
            return  # the host has yet to hear of it
        ahead = self._heard - self._taken
        if ahead > _WINDOW_BYTES + _EVENT_BYTES:
            raise PeerProtocolError(f"{self._name} is {ahead} bytes ahead of its session and says still more")
        self._heard += size
        self._waiting.append((list(envs), size))
        if self._task is None:
            self._task = self._spawn(self._take(), f"sayings of {self._name}")

    def stop(self) -> None:
        """The delivery is over: nothing of it may reach the session any more. Idempotent."""
        self._waiting.clear()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _take(self) -> None:
        me = asyncio.current_task()
        try:
            while self._waiting and self._task is me:
                envs, size = self._waiting.popleft()
                await self._outlet.emit_all(envs)
                self._taken += size
                if self._task is me and (not self._waiting or self._taken - self._told_at >= _TELL_BYTES):
                    self._told_at = self._taken
                    self._told(self._taken, None)
        except Exception as error:
            self._refuse(error)
        if self._task is me:
            self._task = None
            self._quiet()

    def _refuse(self, error: Exception) -> None:
        self._waiting.clear()
        if not isinstance(error, LanewayError):
            error = HandlerFailed(f"what it said could not be taken: {type(error).__name__}: {error}")
        self.error = error
        self._told(self._taken, error)
