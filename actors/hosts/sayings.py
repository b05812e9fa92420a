"""What the handler of one delivery says on another host, on its way into the session, in order.

Law of this file: what was said is taken by the session in the order in which it was said, each event
once, and nothing after the delivery is over. What waits is bounded: a host may run ahead of what was
acknowledged by its window and one event; one that sends more does not keep the rules, and its
connection ends.

What the session takes at once costs no task: one is made for what has to wait, and ends with it. What
was taken is told at a quarter of the window, else after a while (`Tellings`) together with that of
other deliveries, and not at all if the delivery is over by then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from laneway.actors.ports import Outlet
from laneway.routing.envelope import Envelope
from laneway.routing.errors import HandlerFailed, LanewayError, PeerProtocolError

__all__ = ["Ready", "Sayings", "Teller", "Tellings"]

_WINDOW_BYTES: Final = 65_536
"""How far a host's handler runs ahead before it waits."""
_EVENT_BYTES: Final = 1_310_720
"""One event more is always possible: the largest body is 1 MiB, and what is critical does not wait."""
_TELL_BYTES: Final = 16_384
"""Told at once: a quarter of the window, so that it never closes for long."""
_TELL_S: Final = 0.010
"""Less than that is told after so long; a host that has a small window waits no longer."""

Ready = Callable[[Sequence[Envelope]], int]
"""An outlet's `emit_ready`, if it has one: takes the first of these events, up to one for which
`emit_all` would wait or that it would refuse, and returns how many. Raises like `emit_all`, before it takes any."""


class Teller(Protocol):
    """The delivery that says it."""

    @property
    def name(self) -> str:
        """For messages to people."""
        ...

    def tell_taken(self, taken_bytes: int, error: LanewayError | None) -> None:
        """So many bytes were taken since the beginning, and why no more will be (or None)."""
        ...

    def quiet(self) -> None:
        """Everything was taken, or nothing more will be."""
        ...


class Tellings:
    """Acknowledgements that may wait a little: one timer for all deliveries of a front."""

    def __init__(self) -> None:
        self._due: dict[Sayings, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, sayings: Sayings) -> None:
        """Have it tell what was taken, soon."""
        self._due[sayings] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TELL_S, self._tell)

    def drop(self, sayings: Sayings) -> None:
        """It is over. Idempotent."""
        self._due.pop(sayings, None)

    def cancel(self) -> None:
        """Tell nothing more. Idempotent."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        self._timer = None
        due, self._due = self._due, {}
        for sayings in due:
            sayings.tell()


class Sayings:
    """Events of one delivery that the session has yet to take. Lives on one event loop.

    Args:
        ready: of the outlet, or None.
        spawn: runs a coroutine as a task that somebody awaits in the end.

    Attributes:
        error: why the session takes no more, or None.
    """

    __slots__ = (
        "_heard",
        "_moved",
        "_outlet",
        "_ready",
        "_spawn",
        "_taken",
        "_task",
        "_teller",
        "_tellings",
        "_told",
        "_waiting",
        "error",
    )

    def __init__(
        self,
        teller: Teller,
        outlet: Outlet,
        ready: Ready | None,
        tellings: Tellings,
        spawn: Callable[..., asyncio.Task[None]],
    ) -> None:
        self.error: LanewayError | None = None
        self._teller = teller
        self._outlet = outlet
        self._ready = ready
        self._tellings = tellings
        self._spawn = spawn
        self._waiting: deque[tuple[Sequence[Envelope], int]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._moved: asyncio.Event | None = None
        self._heard = self._taken = self._told = 0

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
            raise PeerProtocolError(f"{self._teller.name} is {ahead} bytes ahead of its session and says still more")
        self._heard += size
        if self._task is None and self._ready is not None:
            try:
                taken = self._ready(envs) if envs else 0
            except Exception as error:
                self._refuse(error)
                return
            if taken == len(envs):
                self._took(size)
                return
            envs = envs[taken:]
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((envs, size))
        if self._task is None:
            self._task = self._spawn(self._take(self._waiting), f"sayings of {self._teller.name}")

    async def caught_up(self) -> None:
        """Wait until what was said so far was taken, or nothing more will be; the caller has the deadline."""
        mark = self._heard
        while self._task is not None and self.error is None and self._taken < mark:
            if self._moved is None:
                self._moved = asyncio.Event()
            await self._moved.wait()

    def tell(self) -> None:
        """Tell what was taken, if that is news."""
        if self._told != self._taken and self.error is None:
            self._told = self._taken
            self._teller.tell_taken(self._taken, None)

    def stop(self) -> None:
        """The delivery is over: nothing of it may reach the session any more. Idempotent."""
        self._tellings.drop(self)
        if self._waiting:
            self._waiting.clear()
        task, self._task = self._task, None
        self._move()
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _take(self, waiting: deque[tuple[Sequence[Envelope], int]]) -> None:
        me = asyncio.current_task()
        try:
            while waiting and self._task is me:
                envs, size = waiting.popleft()
                await self._outlet.emit_all(envs)
                if self._task is me:
                    self._took(size)
        except Exception as error:
            self._refuse(error)
        if self._task is me:
            self._task = None
            self._teller.quiet()

    def _took(self, size: int) -> None:
        self._taken += size
        self._move()
        if self._taken - self._told >= _TELL_BYTES:
            self.tell()
        else:
            self._tellings.add(self)

    def _refuse(self, error: Exception) -> None:
        if self._waiting:
            self._waiting.clear()
        if not isinstance(error, LanewayError):
            error = HandlerFailed(f"what it said could not be taken: {type(error).__name__}: {error}")
        self.error = error
        self._move()
        self._teller.tell_taken(self._taken, error)

    def _move(self) -> None:
        """Let everybody look who waits for what was said before."""
        if self._moved is not None:
            self._moved.set()
            self._moved = None
