"""Who tells sessions what their views of documents hold: one task for each view that has something to tell.

Law of this file: a session is told at its own pace, within its credit, and no other one waits for it. A view
whose session refuses for good is given up; any other failure is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from laneway.actors.homes.homes import is_elsewhere
from laneway.actors.ports import Clock, Out, Outlet
from laneway.actors.sync.bounds import SyncPolicy
from laneway.actors.sync.room import Room
from laneway.actors.sync.views import FrameView, View
from laneway.routing.classify import KindTable
from laneway.routing.envelope import NO_DEADLINE, Envelope
from laneway.routing.errors import Fenced, LanewayError

__all__ = ["Teller"]

_PRODUCER: Final = "engine/documents"
_ATTEMPTS: Final = 5


class Teller:
    """Tells views.

    Args:
        outlet: takes events to sessions.
        kinds: gives the lanes of what is told.
        prepare: makes space for a document before it is read. Raises Overloaded.
        lost_view: called for a view that is given up.
        moved: told of a document that turned out to be at home elsewhere.
    """

    def __init__(
        self,
        outlet: Outlet,
        clock: Clock,
        kinds: KindTable,
        policy: SyncPolicy,
        *,
        prepare: Callable[[Room], None],
        lost_view: Callable[[], None],
        moved: Callable[[Room, Fenced], None],
    ) -> None:
        self._outlet = outlet
        self._clock = clock
        self._kinds = kinds
        self._policy = policy
        self._prepare = prepare
        self._lost_view = lost_view
        self._moved = moved
        self._telling: dict[View, asyncio.Task[None]] = {}
        self._counter = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._telling)

    def tell(self, room: Room, view: View) -> None:
        """See to it that the view's session is told, now if it was not just told."""
        if view not in self._telling and not self._closed:
            task = asyncio.get_running_loop().create_task(self._pump(room, view), name=f"tell {room.archive.key}")
            self._telling[view] = task

    def stop(self, view: View) -> None:
        """Tell this view no more. Idempotent; no effect on the view that calls it."""
        task = self._telling.get(view)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def close(self) -> None:
        """Tell nobody any more; idempotent."""
        self._closed = True
        tasks = list(self._telling.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _pump(self, room: Room, view: View) -> None:
        """Tell one session until there is nothing left; it waits for the session's credit."""
        tick_s = self._policy.tick_s if isinstance(view, FrameView) else self._policy.state_tick_s
        failures = 0
        outs: list[Out] = []
        try:
            while room.follows(view) and (outs or view.dirty):
                try:
                    if not outs:
                        if view.needs_content:
                            self._prepare(room)
                        outs = await room.take(view)
                    while outs:
                        await self._outlet.emit(self._envelope(room, view, outs[0]))
                        del outs[0]
                    failures = 0
                    await asyncio.sleep(tick_s)
                except LanewayError as error:
                    if isinstance(error, Fenced) and is_elsewhere(error) and not room.resident:
                        self._moved(room, error)
                        return
                    failures += 1
                    if failures == _ATTEMPTS or not error.retryable:
                        self._lost_view()
                        room.leave(view)
                        return
                    await asyncio.sleep(self._policy.retry_s)
        finally:
            del self._telling[view]

    def _envelope(self, room: Room, view: View, out: Out) -> Envelope:
        self._counter += 1
        lane, now = self._kinds.lane(out.kind), self._clock.now()
        where = (room.tenant, view.session, "", out.entity, lane, NO_DEADLINE, view.trace, "")
        return (_PRODUCER, self._counter, out.kind, *where, out.body, now)
