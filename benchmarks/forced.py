"""W1 where fair queueing has to decide about every event, and never finds that there is nothing to choose.

The engine's queues are lazy: what fits into one take is handed out as it came. Here each take asks for
one event less than there is, so that all but the last must be sorted by lane, tenant and session, and
chosen. Everything else is the row of frames of 64.

Law of this file: what was chosen is counted at the scheduler; a run that chose less than nine tenths
of its events has no figure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.channels import Opened, Way
from benchmarks.counts import Lost
from benchmarks.measure import Stopwatch
from benchmarks.paths import FRAME_EVENTS, FRAMES, LISTS
from laneway.routing.envelope import Envelope
from laneway.routing.scheduler import Scheduler

__all__ = ["FORCED", "FORCED_LISTS", "Chosen", "choosing"]

_LEAST_CHOSEN: Final = 0.9


@dataclass(slots=True)
class Chosen:
    """Events that schedulers handed out, and how many of them were chosen among more than were asked for."""

    taken: int = 0
    chosen: int = 0

    @property
    def share(self) -> float:
        """Chosen of all taken; 0 if nothing was."""
        return self.chosen / self.taken if self.taken else 0.0


@contextmanager
def choosing() -> Iterator[Chosen]:
    """Let every scheduler of this process choose, for the time of the block."""
    counts, take = Chosen(), Scheduler.take

    def chosen(self: Scheduler, room: int, now: float, *, only_critical: bool = False) -> list[Envelope]:
        waiting = len(self)
        if only_critical or waiting < 2:
            out = take(self, room, now, only_critical=only_critical)
        else:
            out = take(self, min(room, waiting - 1), now)
            counts.chosen += len(out)
            if len(out) < room:
                out += take(self, room - len(out), now)
        counts.taken += len(out)
        return out

    Scheduler.take = chosen  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        Scheduler.take = take  # type: ignore[method-assign]


def _forced(row: str, free: Way) -> Way:
    """Return the row of this name that is `free` with fair queueing forced."""

    @asynccontextmanager
    async def open_(watch: Stopwatch) -> AsyncIterator[Opened]:
        with choosing() as counts:
            async with free.open(watch) as opened:
                yield opened
            watch.note(chosen_share=counts.share)
            if counts.share < _LEAST_CHOSEN:
                raise Lost(f"{row}: of {counts.taken} events only {counts.chosen} were chosen")

    return Way(row, open_, frame=FRAME_EVENTS, open_loop=False)


FORCED: Final = _forced("laneway engine, frames, fair queue forced", FRAMES)
"""No open loop: below capacity events come one by one, and of one there is nothing to choose."""
FORCED_LISTS: Final = _forced("laneway engine, frames, fair queue forced, handlers of lists", LISTS)
"""As above, with the handlers of `paths.LISTS`."""
