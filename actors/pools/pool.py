"""A pool: cells of one role, and which of them gets an event.

Law of this file: a pool never queues. It says how much room it has and passes what is delivered on,
at once: to the named cell if the pool is keyed, else to the least loaded one.

Where a cell lives is the cell's own affair. A pool makes its cells itself, or (`remote`) begins without
any and takes those that come: `join`, `leave`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from laneway.actors.endings import failed
from laneway.actors.pools.cell import Cell, Match
from laneway.actors.pools.gauges import CellStatistics, PoolStatistics
from laneway.actors.pools.turn import Answer, MakeContext
from laneway.actors.ports import Clock, Probe
from laneway.actors.spans import Span
from laneway.routing.envelope import LANE, Envelope
from laneway.routing.errors import ConfigError, LanewayError, LocalProtocolError
from laneway.routing.lanes import Lane

__all__ = ["KEYS", "CellPort", "Pool", "PoolSpec"]

KEYS: Final = ("none", "session", "entity", "run")
"""What keeps events in one cell; "none": any cell, so that events of one session may run side by side."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """What a pool is.

    Attributes:
        name: unique in the engine.
        kinds: kinds of events it takes.
        handler: see `ports.Handler`; with `batch`, a `batch.BatchHandler`.
        cells: mailboxes, at least 1; more only help a keyed pool or one whose cells live apart.
        concurrency: handlers at once in each cell (one more for critical events), at least 1.
        keyed: one of KEYS.
        batch: the handler takes lists.
        streams_input: the handler takes the parts of a large text one by one, not put together.
        run_starting: its events are runs: never repeated once started.
        accepts: further condition on an event's content, asked at admission; must be pure and cheap.
        grace_s: seconds between a cancel and giving up on a handler that ignores it.
        target_wait_s: median wait in its queue above which what may wait is limited; infinity: never; None:
            as the engine's setting says. See `routing/backlog.py`.
        tenant_share: of its slots that one tenant may have while others use the pool; 1: any. See
            `routing/seats.py`.
        remote: its cells are on other hosts and come by themselves; `handler` and `cells` say nothing here.
    """

    name: str
    kinds: Sequence[str]
    handler: Callable[..., Any]
    cells: int = 1
    concurrency: int = 8
    keyed: str = "none"
    batch: bool = False
    streams_input: bool = False
    run_starting: bool = False
    accepts: Callable[[Envelope], bool] | None = field(default=None)
    grace_s: float = 5.0
    target_wait_s: float | None = None
    tenant_share: float = 1.0
    remote: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for a pool that cannot work."""
        if not self.name:
            raise ConfigError("a pool needs a name")
        if not self.kinds:
            raise ConfigError(f"pool {self.name!r} takes no kind; name at least one")
        if self.cells < 1 or self.concurrency < 1:
            raise ConfigError(f"pool {self.name!r} needs at least one cell and a concurrency of at least 1")
        if self.keyed not in KEYS:
            raise ConfigError(f"pool {self.name!r} is keyed by {self.keyed!r}; choose one of {', '.join(KEYS)}")


class CellPort(Protocol):
    """A cell as its pool sees it, wherever it lives. See `Cell` for what each promises."""

    @property
    def name(self) -> str:
        """Unique in the pool."""
        ...

    @property
    def open(self) -> bool:
        """True if events may be delivered."""
        ...

    @property
    def load(self) -> int:
        """Events that were delivered and are not answered."""
        ...

    def free(self, critical: bool = False) -> int:
        """How many events may be delivered now: ordinary ones, or critical ones into their reserve."""
        ...

    def deliver(self, *envs: Envelope) -> None:
        """Take events, at least one; each is answered exactly once.

        Raises LocalProtocolError, and takes none, beyond `free`.
        """
        ...

    def cancel(self, match: Match, reason: str = "") -> int:
        """End events that match; returns how many. Does not wait for handlers."""
        ...

    async def close(self, deadline: float) -> None:
        """Take nothing any more; handlers run until `deadline` (monotonic), then all is answered."""
        ...

    def statistics(self) -> CellStatistics:
        """Return gauges and counters."""
        ...


class Pool:
    """The cells of one spec.

    Attributes:
        answer, lost, sent: `on_done`, `on_lost` and `on_sent`, for the cells that come by themselves.

    Args:
        make_context: as for a cell.
        on_done: told how each delivered event ended, exactly once.
        on_change: called when cells come and go (quarantine, hosts) or a lost slot is back.
        on_lost: told of the events that a host had when it was lost, in the order of their delivery;
            they are this callback's to answer.
        on_sent: told which sampled event is on its way to which cell of another host.
        late_emits: reads the pool's counter of discarded events.
        begin: as for a cell.
    """

    def __init__(
        self,
        spec: PoolSpec,
        *,
        clock: Clock,
        make_context: MakeContext,
        on_done: Answer,
        on_change: Callable[[], None] | None = None,
        on_lost: Callable[[Sequence[Envelope]], None] = lambda envs: None,
        on_sent: Callable[[Envelope, str], None] = lambda env, cell: None,
        late_emits: Callable[[], int] = lambda: 0,
        begin: Callable[[str, Sequence[Envelope]], Span] | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.spec = spec
        self._late_emits = late_emits
        self.answer, self.lost, self.sent = on_done, on_lost, on_sent
        self._on_change = on_change
        self._left: list[CellPort] = []
        self._cells: dict[str, CellPort] = {
            name: Cell(
                name,
                spec.handler,
                concurrency=spec.concurrency,
                clock=clock,
                make_context=make_context,
                on_done=on_done,
                grace_s=spec.grace_s,
                batch=spec.batch,
                on_change=on_change,
                begin=begin,
                probe=probe,
            )
            for name in (f"{spec.name}/{index}" for index in range(0 if spec.remote else spec.cells))
        }
        self._only = self._the_only()

    def join(self, cell: CellPort) -> None:
        """Add a cell; one of the same name that was there before leaves."""
        self._leave(cell.name)
        self._cells[cell.name] = cell
        self.changed()

    def leave(self, name: str) -> None:
        """Give a cell nothing any more; what it was given ends there, and cancels still find it. Idempotent."""
        if name in self._cells:
            self._leave(name)
            self.changed()

    def changed(self) -> None:
        """A cell has opened or closed, or has other room: look at them anew."""
        self._only = self._the_only()
        if self._on_change is not None:
            self._on_change()

    def _leave(self, name: str) -> None:
        self._left = [cell for cell in self._left if cell.load]
        if (cell := self._cells.pop(name, None)) is not None and cell.load:
            self._left.append(cell)

    def _the_only(self) -> CellPort | None:
        return next(iter(self._cells.values())) if len(self._cells) == 1 else None

    @property
    def cells(self) -> list[str]:
        """Names of the cells that take events now."""
        return [name for name, cell in self._cells.items() if cell.open]

    @property
    def load(self) -> int:
        """Events waiting and running in the pool."""
        return sum(cell.load for cell in self._everywhere())

    def room(self, cell: str | None = None, critical: bool = False) -> int:
        """How many events may be delivered now, to one cell or to the pool. O(cells)."""
        if cell is not None:
            named = self._cells.get(cell)
            return named.free(critical) if named is not None else 0
        if self._only is not None:
            return self._only.free(critical)
        return sum(one.free(critical) for one in self._cells.values())

    def deliver(self, *envs: Envelope, cell: str | None = None) -> None:
        """Pass events on, in order, at least one. O(events); times cells if there are several to choose from.

        Raises LocalProtocolError, and none is passed on, if there is no room or no cell, see `room`. Events whose
        cell has closed or been quarantined since the room was asked for are answered by that cell.
        """
        only = self._only if cell is None else self._cells[cell]
        if only is not None:
            only.deliver(*envs)
            return
        for env in envs:
            try:
                self._least_loaded(env).deliver(env)
            except LanewayError as error:
                if env is envs[0]:
                    raise
                self.answer(env, failed(error))  # others were taken, so this one must be over as well

    def _everywhere(self) -> list[CellPort]:
        """The cells, and those that have left and are not done."""
        return [*self._cells.values(), *self._left] if self._left else list(self._cells.values())

    def _least_loaded(self, env: Envelope) -> CellPort:
        critical = env[LANE] == Lane.CRITICAL
        cells = list(self._cells.values())
        if not cells:
            raise LocalProtocolError(f"pool {self.spec.name!r} has no cell now; ask room() before delivering")
        free = [cell for cell in cells if cell.free() > 0 or (critical and cell.free(critical=True) > 0)]
        return min(free or cells, key=lambda cell: cell.load)

    def cancel(self, match: Match, reason: str = "") -> int:
        """End queued and running events that match; returns how many."""
        return sum(cell.cancel(match, reason) for cell in self._everywhere())

    async def drain(self, deadline: float) -> None:
        """Close every cell: what runs gets until `deadline` (monotonic), all is answered."""
        async with asyncio.TaskGroup() as group:
            for cell in self._everywhere():
                group.create_task(cell.close(deadline), name=f"close {cell.name}")

    def statistics(self) -> PoolStatistics:
        """Return the pool's gauges and counters."""
        cells = tuple(cell.statistics() for cell in self._everywhere())
        return PoolStatistics(
            name=self.spec.name,
            waiting=sum(sum(cell.waiting) for cell in cells),
            running=sum(cell.running for cell in cells),
            abandoned=sum(cell.abandoned for cell in cells),
            late_emits=self._late_emits(),
            cells=cells,
            slots=self.spec.concurrency * len(self.cells),
        )
