"""A cell on another host, as a pool here sees it.

Law of this file: every event delivered is answered through its pool exactly once, on every path:
handled there, failed, expired, cancelled, abandoned, its host lost, this front shut down. What a lost
host had and did not end is the pool's to answer; see `Pool.lost`.

* Room is what the host allows, less what it has: counted here, so that nothing waits for an answer.
* A handler that the host does not end in time is answered for, and its room stays taken until the
  host has said that it is done.
* One timer watches all deliveries; one that ends in time costs none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgpack

from laneway.actors.alarm import Alarm
from laneway.actors.endings import drained, failed, stopped_late
from laneway.actors.hosts.carriage import Carriage, Desk
from laneway.actors.hosts.peers import DELIVER, Peer
from laneway.actors.pools.cell import Match
from laneway.actors.pools.gauges import CellStatistics
from laneway.actors.pools.pool import Pool
from laneway.actors.ports import Observe, Outcome, Principal, Probe
from laneway.routing.envelope import ACCEPTED, LANE, NO_DEADLINE, SESSION, TENANT, TRACE, Envelope, envelope_id
from laneway.routing.errors import LanewayError, LocalProtocolError
from laneway.routing.lanes import LANE_COUNT, Lane

__all__ = ["RemoteCell"]

_NONE_WAITING: Final = (0,) * LANE_COUNT


class RemoteCell:
    """Implements `CellPort`. Lives on one event loop.

    Args:
        cell: what the host calls it.
        pool: whose cell it is; told of answers, losses, and other room.
        number: next number of a delivery on this connection.
        waited: histogram per lane: from acceptance to the departure.
        probe: counter `cell.abandoned`.

    Attributes:
        carried: number -> what was delivered and is not over on both sides.
    """

    def __init__(
        self,
        cell: str,
        peer: Peer,
        pool: Pool,
        desk: Desk,
        *,
        number: Callable[[], int],
        waited: tuple[Observe, ...],
        probe: Probe | None = None,
    ) -> None:
        self.name = f"{cell}@{peer.name}"
        self.carried: dict[int, Carriage] = {}
        self._cell = cell
        self._peer = peer
        self._pool = pool
        self._desk = desk
        self._number = number
        self._waited = waited
        self._probe = probe
        self._grace_s = pool.spec.grace_s
        self._ordinary = self._critical = 0  # how many the host allows
        self._ordinary_out = self._critical_out = 0
        self._open_events = self._abandoned_total = 0
        self._alarm = Alarm(desk.clock, self._look)
        self._quiet = asyncio.Event()
        self._closing = False

    # -- what the pool asks ---------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """True if events may be delivered: connected, not closing, and the host allows any."""
        return not self._closing and self._peer.alive and self._ordinary + self._critical > 0

    @property
    def load(self) -> int:
        """Events that are not answered."""
        return self._open_events

    def free(self, critical: bool = False) -> int:
        """How many events may be delivered now: ordinary ones, or critical ones into their reserve."""
        if self._closing or not self._peer.alive:
            return 0
        beyond = self._critical_out - self._critical
        if critical:
            return max(0, -beyond)
        return max(0, self._ordinary - self._ordinary_out - max(0, beyond))

    def deliver(self, *envs: Envelope) -> None:
        """Send events, in order. Raises LocalProtocolError beyond `free`, sending none.

        What comes when this front has shut the cell is answered at once; what comes when the host has gone
        is the pool's again.
        """
        if self._closing:
            for env in envs:
                self._pool.answer(env, drained())
        elif not self._peer.alive:
            self._pool.lost(envs)
        elif not self._fit(envs):
            raise LocalProtocolError(f"cell {self.name} has no room at event {envelope_id(envs[0])}; ask free() first")
        else:
            for env in envs:
                self._send(env, env[LANE] == Lane.CRITICAL)

    def _fit(self, envs: Sequence[Envelope]) -> bool:
        critical = sum(env[LANE] == Lane.CRITICAL for env in envs)
        ordinary = len(envs) - critical
        beyond = max(0, self._critical_out + critical - self._critical)
        return not (ordinary or beyond) or self._ordinary_out + ordinary + beyond <= self._ordinary

    def _send(self, env: Envelope, critical: bool) -> None:
        desk, number = self._desk, self._number()
        now = desk.clock.now()
        try:
            packed, who = desk.packer.pack(env, now), _row(desk.principal(env))
            history = None
            if self._pool.spec.run_starting:
                history = msgpack.packb(list(desk.history(env[TENANT], env[SESSION])))
        except Exception as error:  # it cannot travel, so it is over here
            self._pool.answer(env, failed(error))
            return
        carriage = Carriage(
            number, env, self._peer, desk, grace_s=self._grace_s, over=self._over, watch=self._alarm.set
        )
        self.carried[number] = carriage
        self._open_events += 1
        if critical:
            self._critical_out += 1
        else:
            self._ordinary_out += 1
        if carriage.give_up_at != NO_DEADLINE:
            self._alarm.set(carriage.give_up_at)
        self._waited[env[LANE]](now - env[ACCEPTED])
        try:
            carriage.send((DELIVER, number, self._cell, packed, who, history))
        except LanewayError as error:  # larger than a message may be: it never left
            carriage.finish(failed(error))
            return
        if env[TRACE]:
            self._pool.sent(env, self.name)

    def cancel(self, match: Match, reason: str = "") -> int:
        """End events that match; returns how many. Does not wait for handlers."""
        hits = [carriage for carriage in self.carried.values() if not carriage.answered and match(carriage.env)]
        for carriage in hits:
            carriage.cancel(reason)
        return len(hits)

    async def close(self, deadline: float) -> None:
        """Take nothing any more, let handlers run until `deadline` (monotonic), then answer for them. Idempotent."""
        self._closing = True
        now = self._desk.clock.now()
        while self._open_events and (left_s := deadline - now) > 0:
            self._quiet.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._quiet.wait()
            except TimeoutError:
                break
            now = self._desk.clock.now()
        for carriage in list(self.carried.values()):
            carriage.give_up(drained())
        self._alarm.cancel()

    def statistics(self) -> CellStatistics:
        """Return gauges and counters; what waits and what runs there is not told apart."""
        return CellStatistics(
            name=self.name,
            waiting=_NONE_WAITING,
            running=self._open_events,
            workers=0,
            abandoned=len(self.carried) - self._open_events,
            abandoned_total=self._abandoned_total,
            crashes=0,
            quarantined=False,
        )

    # -- what the host says ---------------------------------------------------------------------

    def allow(self, ordinary: int, critical: int) -> None:
        """The host has room for so many events of this front at once."""
        if (ordinary, critical) != (self._ordinary, self._critical):
            self._ordinary, self._critical = ordinary, critical
            self._pool.changed()

    def done(self, carriage: Carriage, outcome: Outcome) -> None:
        """The host is done with one."""
        late = carriage.answered
        carriage.finish(outcome)
        if late:
            self._forget(carriage)
            self._pool.changed()

    def lost(self) -> None:
        """The connection is over, and the cell with it. What needs another host comes first, in its order."""
        self._pool.leave(self.name)
        carried = list(self.carried.values())
        homeless = [carriage for carriage in carried if carriage.lose()]
        self._open_events -= len(homeless)
        if homeless:
            self._pool.lost([carriage.env for carriage in homeless])
        for carriage in carried:
            if not carriage.finished:
                carriage.give_up(stopped_late())
                self._forget(carriage)

    # -- inside ---------------------------------------------------------------------------------

    def _over(self, carriage: Carriage, outcome: Outcome) -> None:
        self._open_events -= 1
        if carriage.gone:
            self._forget(carriage)
        if not self._open_events:
            self._quiet.set()
        self._pool.answer(carriage.env, outcome)

    def _forget(self, carriage: Carriage) -> None:
        if self.carried.pop(carriage.number, None) is None:
            return
        if carriage.urgent:
            self._critical_out -= 1
        else:
            self._ordinary_out -= 1

    def _look(self) -> None:
        """Answer for what the host should have answered by now, and plan the next look."""
        now = self._desk.clock.now()
        for carriage in list(self.carried.values()):
            if carriage.answered:
                continue
            if carriage.give_up_at <= now:
                self._abandoned_total += 1
                if self._probe is not None:
                    self._probe.count("cell.abandoned", cell=self.name)
                carriage.give_up(stopped_late())
            else:
                self._alarm.set(carriage.give_up_at)


def _row(who: Principal) -> list[object]:
    return [who.subject, who.tenant, sorted(who.scopes), who.expires_at]
