"""Which pool takes an event, and which of the pool's serving units it waits in.

Law of this file: the answer depends on the event and on what was registered, not on load or history.
By kind first, then by content: pools with a condition are asked in the order of their addition, the
one without takes the rest. Inside a keyed pool, rendezvous hash of the key over its cells.

What a kind means (lane, pool, flags) is resolved once and kept as one row until a pool comes or goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, NamedTuple

from laneway.routing.backlog import TARGET_WAIT_S, Backlog
from laneway.routing.classify import KindTable
from laneway.routing.envelope import ACCEPTED, ENTITY, KIND, RUN, SESSION, TENANT, Envelope
from laneway.routing.errors import ConfigError, LocalProtocolError, PeerProtocolError
from laneway.routing.parts import Reassembler, cut
from laneway.routing.placement import rendezvous
from laneway.routing.scheduler import Scheduler
from laneway.routing.seats import Seats

__all__ = ["KEYS", "Limits", "PoolQueues", "PoolRoute", "RouteTable", "Row"]

_KEY_FIELDS: Final[Mapping[str, int]] = {"session": SESSION, "entity": ENTITY, "run": RUN}
KEYS: Final = ("none", *_KEY_FIELDS)
"""What keeps events in one cell."""
_MAX_TENANTS: Final = 4_096
"""Units of tenants that are kept although nothing waits in them."""
_MAX_PLACED: Final = 65_536
"""Keys whose cell is remembered per pool; beyond it they are hashed anew, 1 us per cell."""


@dataclass(frozen=True, slots=True)
class PoolRoute:
    """What of a pool matters to routing.

    Attributes:
        name: unique in the dispatcher.
        kinds: names of the kinds it takes. Only one pool without `accepts` may take a kind.
        keyed: "none" (any worker), or what keeps events in one cell: "session", "entity" (of the
            tenant) or "run"; an event whose entity or run is empty goes by its session.
        accepts: takes only events for which this is true; such pools are asked first. Pure and cheap;
            an exception counts as no.
        streams_input: its handlers get large text as parts (see `parts`), in order, each ended by
            `done`; the event is over with its last part. Otherwise parts are put together first.
        target_wait_s: median wait above which what may wait is limited (see `backlog`); infinity: never;
            None: as the dispatcher's policy says.
        tenant_share: of the pool's slots that one tenant may have while there are others (see `seats`);
            1: any. Not for a keyed pool.
    """

    name: str
    kinds: Sequence[str]
    keyed: str = "none"
    accepts: Callable[[Envelope], bool] | None = None
    streams_input: bool = False
    target_wait_s: float | None = None
    tenant_share: float = 1.0

    def __post_init__(self) -> None:
        """Raise ConfigError for a route that cannot work."""
        if self.target_wait_s is not None and not self.target_wait_s > 0:
            raise ConfigError(f"pool {self.name!r} has a target wait of {self.target_wait_s} s; give more than 0")
        if not 0 < self.tenant_share <= 1 or (self.tenant_share < 1 and self.keyed != "none"):
            raise ConfigError(f"pool {self.name!r}: tenant_share lies in (0, 1], and is not for a keyed pool")
        if self.keyed not in KEYS:
            raise ConfigError(f"pool {self.name!r} is keyed by {self.keyed!r}; choose one of {', '.join(KEYS)}")


class Limits(NamedTuple):
    """Limits of backlogs, for pools that have none of their own; see `Backlog`."""

    target_wait_s: float = TARGET_WAIT_S
    run_share: float = 1.0


_DEFAULT: Final = Limits()


class PoolQueues:
    """The serving units of one pool: one for all, or one per cell of a keyed pool."""

    __slots__ = (
        "_key_field",
        "_make",
        "_of_tenant",
        "_placed",
        "_reassembler",
        "backlog",
        "cells",
        "cut",
        "name",
        "route",
        "seats",
        "shared",
    )

    def __init__(self, route: PoolRoute, make: Callable[[], Scheduler], limits: Limits = _DEFAULT) -> None:
        self.route = route
        target_s = limits.target_wait_s if route.target_wait_s is None else route.target_wait_s
        self.backlog = Backlog(route.name, target_s, self._counts, self._queued, limits.run_share)
        self.name = route.name
        self.shared = make()
        self.cells: dict[str, Scheduler] = {}
        """Units of a keyed pool whose cells are known; empty else."""
        self._reassembler = Reassembler()
        self.cut = 0
        """Events in parts that are to be put together at the exit, and are not over."""
        self._make = make
        self._key_field = _KEY_FIELDS.get(route.keyed)
        self._placed: dict[tuple[str, str], Scheduler] = {}
        self.seats = Seats(route.tenant_share) if route.tenant_share < 1 else None
        """Who holds how many of its slots, if that is limited: then there is a unit for each tenant."""
        self._of_tenant: dict[str, Scheduler] = {}

    @property
    def waiting(self) -> int:
        """Events (parts count as one each) queued in all units."""
        return sum(map(len, self.units()))

    @property
    def oldest(self) -> float | None:
        """When about the longest waiting event was accepted, or None if nothing waits. O(units)."""
        return min((at for unit in self.units() if (at := unit.oldest()) is not None), default=None)

    def _counts(self, lane: int) -> tuple[int, int]:
        """Events of a lane that wait, and that were taken since the start. O(units)."""
        waiting, taken = 0, 0
        for unit in self.units():
            waiting += unit.depth(lane)
            taken += unit.taken(lane)
        return waiting, taken

    def _queued(self, lane: int) -> Iterator[Envelope]:
        """Events of a lane that wait, unit by unit."""
        for unit in self.units():
            yield from unit.queued(lane)

    def units(self) -> Iterator[Scheduler]:
        """All serving units."""
        yield self.shared
        yield from self.cells.values()
        yield from self._of_tenant.values()

    def unit(self, cell: str | None) -> Scheduler | None:
        """Return what the named cell serves; None if it is not, or no more, a cell of this pool.

        Raises LocalProtocolError if a keyed pool's cell is not named.
        """
        if not self.cells:
            return self.shared
        if cell is None:
            raise LocalProtocolError(f"pool {self.route.name!r} is keyed; say which cell takes")
        return self.cells.get(cell)

    @property
    def placing(self) -> bool:
        """True if its events may wait in different units."""
        return self._key_field is not None or self.seats is not None

    def place(self, env: Envelope) -> Scheduler:
        """Return the unit in which this event waits."""
        if self.seats is not None:
            own = self._of_tenant.get(env[TENANT])
            if own is None:
                own = self._new_unit()
                self._of_tenant[env[TENANT]] = own
            return own
        if not self.cells or self._key_field is None:
            return self.shared
        name = str(env[self._key_field])
        key = (env[TENANT], name) if name else (env[TENANT], "\x00" + env[SESSION])
        unit = self._placed.get(key)
        if unit is None:
            if len(self._placed) >= _MAX_PLACED:
                self._placed.clear()
            unit = self._placed[key] = self.cells[rendezvous("\x00".join(key), list(self.cells))]
        return unit

    def give_back(self, envs: Sequence[Envelope]) -> None:
        """Put events back, ahead of what was accepted later. O(waiting)."""
        if self.seats is not None:
            self.seats.rise(envs)
        places: dict[int, tuple[Scheduler, list[Envelope]]] = {}
        for env in envs:
            unit = self.place(env)
            places.setdefault(id(unit), (unit, []))[1].append(env)
        for unit, own in places.values():
            unit.give_back(own)

    def push_parts(self, env: Envelope, limit: int) -> None:
        """Queue a large text event as parts of at most `limit` bytes."""
        unit = self.place(env)
        for part in cut(env, limit):
            unit.push(part)
        if not self.route.streams_input:
            self.cut += 1

    def take_joined(self, unit: Scheduler, room: int, now: float, only_critical: bool) -> list[Envelope]:
        """Take up to `room` events, parts put together; what has parts missing costs no room."""
        whole: list[Envelope] = []
        while out := unit.take(room - len(whole), now, only_critical=only_critical):
            for env in out:
                joined = self._reassembler.offer(env)
                if joined is not None:
                    whole.append(joined)
                    self.cut -= joined is not env
        return whole

    def take_seated(self, room: int, now: float, only_critical: bool) -> list[Envelope]:
        """Take up to `room` events, each for the tenant with the fewest seats. O(tenants waiting) per event."""
        seats, out = self.seats, list[Envelope]()
        assert seats is not None
        for tenant, unit in self._of_tenant.items():
            if unit:
                seats.see(tenant, now)
        while len(out) < room and (turn := self._next(seats, now, only_critical)) is not None:
            if self.cut:
                taken = self.take_joined(turn, 1, now, only_critical)
            else:
                taken = turn.take(1, now, only_critical=only_critical)
            for env in taken:
                seats.sit(env, now)
            out += taken
        return out

    def _next(self, seats: Seats, now: float, only_critical: bool) -> Scheduler | None:
        """Return whose turn it is: among equals, whoever has waited longest since its last turn."""
        found = None
        fewest = 0
        for tenant, unit in self._of_tenant.items():
            if not (unit.depth(0) if only_critical else unit and seats.may_sit(tenant, now)):
                continue
            held = seats.held(tenant)
            if found is None or held < fewest:
                found, fewest = tenant, held
        if found is None:
            return None
        unit = self._of_tenant[found] = self._of_tenant.pop(found)  # the last in turn from now on
        return unit

    def _new_unit(self) -> Scheduler:
        """Make a unit; those of tenants that have nothing here go, if there are many."""
        if len(self._of_tenant) >= _MAX_TENANTS:
            self._of_tenant = {name: unit for name, unit in self._of_tenant.items() if unit}
        return self._make()

    def drop_parts(self, env: Envelope) -> None:
        """The event that this is a part of will not be handed out."""
        if not self.route.streams_input:
            self.cut -= 1
            self._reassembler.drop(env)

    def members(self, cells: Sequence[str]) -> None:
        """Set which cells there are; what waits moves with its keys, in order. O(waiting)."""
        if self._key_field is None or set(cells) == set(self.cells):
            return
        moving = [env for unit in self.units() for env in unit.clear()]
        # stable: keeps each unit's order, and puts the units' events into the order of arrival
        moving.sort(key=itemgetter(ACCEPTED))
        self.cells = {name: self.cells[name] if name in self.cells else self._make() for name in cells}
        self._placed.clear()
        for env in moving:
            self.place(env).push(env)


class Row:
    """What an event's kind means here."""

    __slots__ = ("_choices", "decided", "lane", "name", "pool", "push", "text")

    def __init__(self, lane: int, *, text: bool, pool: PoolQueues | None, choices: tuple[PoolQueues, ...]) -> None:
        self.lane = lane
        self.text = text
        self._choices = choices
        limited = pool is not None and pool.backlog.limited
        self.pool = pool if not choices and not limited else None
        """The one pool that takes all events of the kind; None if `choose` must be asked, or its backlog."""
        self.decided = pool is not None and not choices
        """True if the kind alone says which pool takes an event."""
        if pool is not None:
            self._choices = (*choices, pool)
        self.name = self.pool.name if self.pool is not None else ""
        self.push = self.pool.shared.push if self.pool is not None and not self.pool.placing else None
        """Queues an event in that pool; None if its place must be asked for."""

    def choose(self, env: Envelope) -> PoolQueues | None:
        """Return the first pool that takes the event, or None."""
        for pool in self._choices:
            accepts = pool.route.accepts
            if accepts is None:
                return pool
            try:
                if accepts(env):
                    return pool
            except Exception:  # an embedder's condition met content it did not expect: not its event
                continue
        return None


class RouteTable:
    """The pools of one dispatcher, and the rows of its kinds.

    Args:
        kinds: the kinds of the engine; may grow later.
        text_kinds: kinds besides `Kind.text` whose body is plain UTF-8.
        make: makes the queue of a serving unit.
        limits: of backlogs.
    """

    __slots__ = ("_kinds", "_limits", "_make", "_text_kinds", "pools", "rows", "seated")

    def __init__(
        self,
        kinds: KindTable,
        text_kinds: frozenset[str],
        make: Callable[[], Scheduler],
        limits: Limits = _DEFAULT,
    ) -> None:
        self._limits = limits
        self._kinds = kinds
        self._text_kinds = text_kinds
        self._make = make
        self.pools: dict[str, PoolQueues] = {}
        self.seated: list[Seats] = []
        """Seats of the pools whose tenants have shares."""
        self.rows: dict[str, Row] = {}
        """Rows resolved so far; look here first."""

    def add(self, route: PoolRoute) -> None:
        """Register a pool. Raises ConfigError: name taken, kind unknown, or kind taken whole by another."""
        if route.name in self.pools:
            raise ConfigError(f"pool {route.name!r} exists already; choose another name")
        for kind in route.kinds:
            if kind not in self._kinds:
                raise ConfigError(f"pool {route.name!r} takes kind {kind!r}, which does not exist; add the kind first")
            for other in self.pools.values():
                if route.accepts is None and other.route.accepts is None and kind in other.route.kinds:
                    raise ConfigError(
                        f"kind {kind!r} goes to pool {other.route.name!r} already; give pool {route.name!r} a "
                        "condition (accepts), or another kind"
                    )
        self.pools[route.name] = PoolQueues(route, self._make, self._limits)
        self.rows.clear()
        self.seated = [pool.seats for pool in self.pools.values() if pool.seats is not None]

    def pool(self, name: str) -> PoolQueues:
        """Return a pool. Raises LocalProtocolError if there is none of that name."""
        pool = self.pools.get(name)
        if pool is None:
            raise LocalProtocolError(f"there is no pool {name!r}; add_pool it first")
        return pool

    def resolve(self, kind: str) -> Row:
        """Return the row of a kind, from now on in `rows` as well. O(pools).

        Raises PeerProtocolError if it is not routed to any pool: UNKNOWN_KIND or CONTROL_KIND.
        """
        known = self._kinds.get(kind)
        if known is None:
            raise _unknown(
                kind,
                "is not known here; the built-in ones are in docs/protocol.md, others are registered with the engine",
            )
        if known.control:
            raise PeerProtocolError(
                f"{kind} is acted on by the dispatcher itself; call cancel() for it", reason="CONTROL_KIND"
            )
        takers = [pool for pool in self.pools.values() if kind in pool.route.kinds]
        if not takers:
            raise _unknown(kind, "is handled by no pool of this engine; add a pool for it")
        row = self.rows[kind] = Row(
            int(known.lane),
            text=known.text or kind in self._text_kinds,
            pool=next((pool for pool in takers if pool.route.accepts is None), None),
            choices=tuple(pool for pool in takers if pool.route.accepts is not None),
        )
        return row

    def untaken(self, env: Envelope) -> PeerProtocolError:
        """Return the error of an event that no pool's condition accepts."""
        return _unknown(env[KIND], "with this content is taken by no pool of this engine")


def _unknown(kind: str, why: str) -> PeerProtocolError:
    return PeerProtocolError(f"kind {kind[:80]!r} {why}", reason="UNKNOWN_KIND")
