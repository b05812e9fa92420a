"""One task of a cell that runs turns, and what its cell knows of it.

Law of this file: state only; the cell decides. A worker that is not retired and yet cancelled was
cancelled by something of its handler's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from laneway.actors.pools.turn import Turn
from laneway.routing.envelope import NO_DEADLINE

__all__ = ["Worker", "settled"]


class Worker:
    """A worker of a cell.

    Args:
        critical: it takes critical events only.

    Attributes:
        turn: what it runs now, and since when. taken: how many it has handled since it `began`.
        wake: what it waits for while it rests.
        caller: the worker that summoned it, until it has looked.
        give_up_at: when a handler that ignores its cancel is abandoned. retired: it takes nothing more.
    """

    __slots__ = ("began", "caller", "critical", "give_up_at", "retired", "since", "taken", "task", "turn", "wake")

    def __init__(self, critical: bool) -> None:
        self.critical = critical
        self.task: asyncio.Task[None] | None = None
        self.turn: Turn | None = None
        self.since = self.began = 0.0
        self.taken = 0
        self.wake: asyncio.Future[None] | None = None
        self.caller: Worker | None = None
        self.give_up_at = NO_DEADLINE
        self.retired = False

    def rouse(self) -> None:
        """Wake it if it rests."""
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)

    def finds_waiting(self) -> bool:
        """True if who summoned it is in its handler still: handlers here wait for something. Asked once."""
        caller, self.caller = self.caller, None
        return caller is not None and caller.turn is not None

    def asked_to_end(self) -> bool:
        """True if its task is cancelled; else a handler cancelled something of its own and let it out."""
        return self.retired or (self.task is not None and self.task.cancelling() > 0)


async def settled(workers: Iterable[Worker], timeout_s: float) -> None:
    """Wait until the tasks of these are over, at most so long."""
    if tasks := [worker.task for worker in workers if worker.task is not None]:
        await asyncio.wait(tasks, timeout=max(0.0, timeout_s))
