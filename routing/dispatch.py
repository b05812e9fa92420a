"""The dispatcher's decisions, whole: classify, admit, queue, park, place, hand out, end.

Law of this file: every event admitted is in exactly one place until it is over: reserved by its
session, parked behind the event it names, queued, or handed out. ``admitted = done + expired +
dropped + cancelled + released + pending`` at any moment. Events of one (session, producer, lane) leave a
serving unit in the order in which they were enqueued. No clock, no loop: time comes in.

A *serving unit* is what workers pull from: the pool, or for a keyed pool each of its cells. Pulling,
instead of pushing into mailboxes, lets a critical event overtake until the last moment and lets a
cancel find everything that was not started.

An event passes as a plain tuple, by look-ups that were resolved once per kind; what is rare (one that
names another, large text, overload, a full session) leaves the straight line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from laneway.routing.admission import Admission
from laneway.routing.classify import KindTable
from laneway.routing.envelope import COUNTER, ENTITY, KIND, LANE, PRODUCER, RUN, SESSION, TENANT, Envelope
from laneway.routing.envelope import envelope_id as id_of
from laneway.routing.errors import PeerProtocolError
from laneway.routing.express import Express
from laneway.routing.lanes import Lane
from laneway.routing.parking import Chain, Parking, blocker_of
from laneway.routing.parts import is_last, part_of
from laneway.routing.policy import DispatchPolicy
from laneway.routing.routes import Limits, PoolQueues, PoolRoute, RouteTable
from laneway.routing.scheduler import Scheduler
from laneway.routing.triage import Triage
from laneway.routing.verdicts import DispatchStatistics, Verdict

__all__ = ["DispatchCore", "DispatchPolicy", "DispatchStatistics", "PoolRoute", "Verdict"]


class DispatchCore:
    """All decisions of one dispatcher. Not thread-safe; one owner.

    Args:
        kinds: the kinds of the engine; may grow later.
        policy: limits and shares.
    """

    def __init__(self, kinds: KindTable, policy: DispatchPolicy | None = None) -> None:
        self.policy = p = policy or DispatchPolicy()
        self.admission = Admission(p.admission, p.quotas)
        """Accounts and overload level; for `set_level` and `forget`."""
        self._routes = RouteTable(
            kinds,
            p.text_kinds,
            lambda: Scheduler(p.weights, p.age_s, p.codel),
            Limits(p.target_wait_s, p.admission.run_share),
        )
        self._rows = self._routes.rows
        self._parking = Parking(self.admission.settled, p.after_wait_s)
        self.express = Express(self._rows, self.admission, self._parking, p)
        """Admits and queues frames that pass whole; ask there first."""
        self._over: list[Envelope] = []
        self._thinned: list[Envelope] = []
        self._woken: set[str] = set()
        self._triage = Triage(self._routes, self.admission, p.run_kinds)
        self._done = self._expired = self._dropped = self._cancelled = self._released = 0

    # -- pools ----------------------------------------------------------------------------------

    def add_pool(self, route: PoolRoute) -> None:
        """Route kinds to a pool. Raises ConfigError, see `RouteTable.add`."""
        self._routes.add(route)

    def members(self, pool: str, cells: Sequence[str]) -> None:
        """Say which cells a keyed pool has; what waits moves with its keys. No effect on other pools."""
        self._routes.pool(pool).members(cells)

    def slots(self, pool: str, slots: int) -> None:
        """Say how many events a pool can run at once, for the shares of its tenants."""
        if (seats := self._routes.pool(pool).seats) is not None:
            seats.slots = slots

    # -- in -------------------------------------------------------------------------------------

    def admit(self, envs: Sequence[Envelope], now: float) -> list[Verdict]:
        """Classify, check and reserve events; one answer each, in order. Then `enqueue` or `release` them."""
        rows = self._rows
        for env in envs:
            row = rows.get(env[2])
            if row is None or row.pool is None or env[10] or not row.lane <= env[7] <= 3:
                return self._triage.admit(envs, now)
        return self.admission.admit_batch(envs, self.policy.run_kinds, now)

    def introduce(self, tenant: str, session: str, producer: str, subject: str) -> None:
        """Say whose events those of a producer are, for the quotas of that subject."""
        if self.admission.quotas is not None:
            self.admission.quotas.introduce(tenant, session, producer, subject)

    def release(self, env: Envelope) -> None:
        """Give back an event that was admitted and will not be enqueued.

        To events that name it in `after` it counts as not yet come.
        """
        self._released += self.admission.withdraw(env)

    def enqueue(self, envs: Iterable[Envelope], now: float) -> list[str | PeerProtocolError]:
        """Queue admitted events, in order, or park them.

        Returns per event the pool that has something to take, "" if it is parked, or UNKNOWN_KIND if no
        pool's condition takes it any more: then it is still reserved.
        """
        rows, parking, limit = self._rows, self._parking, self.policy.part_bytes
        pools: list[str | PeerProtocolError] = []
        for env in envs:
            row = rows.get(env[2])
            if row is None or row.push is None or env[10] or parking.count or (row.text and len(env[11]) > limit):
                pools.append(self._enqueue(env, now))
            else:
                row.push(env)
                pools.append(row.name)
        return pools

    def offer(self, envs: Sequence[Envelope], now: float) -> list[Verdict]:
        """Admit and enqueue at once."""
        answers = self.admit(envs, now)
        self.enqueue([answer for answer in answers if isinstance(answer, tuple)], now)
        return answers

    # -- out ------------------------------------------------------------------------------------

    def take(
        self, pool: str, room: int, now: float, cell: str | None = None, only_critical: bool = False
    ) -> list[Envelope]:
        """Hand out up to `room` events of a pool in the order to start them; `done` must follow for each.

        Args:
            cell: whose events, if the pool is keyed and has members; else of no effect.
            only_critical: for a slot that is reserved for critical events.

        Raises:
            LocalProtocolError: no such pool, or a keyed pool's cell was not named.
        """
        if self._parking.count and self._parking.deadline() <= now:
            self.poll(now)
        queues = self._routes.pool(pool)
        unit = queues.unit(cell)
        if unit is None or room <= 0:
            return []
        if queues.seats is not None:
            out = queues.take_seated(room, now, only_critical)
            for each in queues.units():
                self._over_due(queues, each, now)
        elif queues.cut:
            out = queues.take_joined(unit, room, now, only_critical)
        else:
            out = unit.take(room, now, only_critical=only_critical)
        self._over_due(queues, unit, now)
        if now >= queues.backlog.look_at and out and not only_critical and queues.backlog.look(out, now):
            self._rows.clear()
        return out

    def urgent(self, pool: str) -> bool:
        """True if a critical event waits for this pool. O(cells)."""
        return any(unit.depth(Lane.CRITICAL) for unit in self._routes.pool(pool).units())

    def expired(self) -> list[Envelope]:
        """Hand out, once, the events found past their deadline when their turn came. They are over."""
        over, self._over = self._over, []
        return over

    def dropped(self) -> list[Envelope]:
        """Hand out, once, the low events that were dropped because they had waited too long. They are over."""
        thinned, self._thinned = self._thinned, []
        return thinned

    def give_back(self, pool: str, envs: Sequence[Envelope]) -> None:
        """Queue events that were handed out and not handled again, ahead of what was accepted later. O(waiting)."""
        self._routes.pool(pool).give_back(envs)

    def soonest(self, pool: str) -> float:
        """Return when something that waits for this pool expires at the earliest; infinity: never. O(cells)."""
        return min(unit.soonest for unit in self._routes.pool(pool).units())

    def expire(self, pool: str, now: float) -> None:
        """Find what expired while nobody took it; see `expired`. O(waiting) if `soonest` has passed."""
        queues = self._routes.pool(pool)
        for unit in queues.units():
            unit.expire(now)
            self._over_due(queues, unit, now)

    def done(self, envs: Iterable[Envelope]) -> None:
        """Events handed out are over, however they ended: frees their caps, lets go on what waited for them.

        Without effect for an event that is over already (expired, cancelled), and for a part that is not
        the last. Ask `woken` afterwards.
        """
        over = self.admission.release([env for env in envs if not env[10] or is_last(env)])
        for seats in self._routes.seated:
            if seats:
                seats.rise(over)
        self._done += len(over)
        if self._parking.count:
            for env in over:
                self._settle(env)

    def cancel(self, tenant: str, session: str, run: str = "", event_id: str = "") -> list[Envelope]:
        """Take what was not handed out yet from the queues; returns the events, which are over.

        Args:
            run: events of this run only; empty (with no `event_id`) means those of every run, so events
                that belong to no run stay.
            event_id: only the event of this id, or the TOOL_CALL of this call id (its entity).

        O(what that session has queued + parked events).
        """

        def match(env: Envelope) -> bool:
            if event_id and id_of(env) != event_id and not (env[KIND] == "TOOL_CALL" and env[ENTITY] == event_id):
                return False
            return env[RUN] == run if run else bool(event_id or env[RUN])

        def match_parked(chain: Chain, env: Envelope) -> bool:
            return chain[0] == tenant and chain[1] == session and match(env)

        removed = [
            (pool, unit.remove(match, tenant, session))
            for pool in self._routes.pools.values()
            for unit in pool.units()
            if unit
        ]
        parked, released = self._parking.remove(match_parked)
        self._resume(released)
        ended = [env for pool, envs in removed for env in self._end(pool, envs)] + self._end(None, parked)
        self._cancelled += len(ended)
        return ended

    # -- time, gauges ---------------------------------------------------------------------------

    def poll(self, now: float) -> None:
        """Let go on what waited long enough for another event. Ask `woken` afterwards."""
        self._resume(self._parking.poll(now))

    def deadline(self) -> float:
        """When to call `poll` (or `take`) next at the latest; infinity if nothing is parked."""
        return self._parking.deadline()

    @property
    def stirred(self) -> bool:
        """True if `woken`, `expired` or `dropped` has something, or something is parked: rarely."""
        return bool(self._woken or self._over or self._thinned or self._parking.count)

    def woken(self) -> list[str]:
        """Hand out, once, the pools that got work other than by `enqueue`: from `done`, `cancel`, `take`, `poll`."""
        woken, self._woken = self._woken, set()
        return sorted(woken)

    def resumed(self) -> list[Envelope]:
        """Hand out, once, the traced events that were parked and are queued now."""
        return self._parking.resumed()

    def backlog(self, pool: str) -> int:
        """Events (parts count as one each) queued for a pool; parked ones are not."""
        return self._routes.pool(pool).waiting

    def statistics(self) -> DispatchStatistics:
        """Return books and gauges. O(pools + cells)."""
        units = [unit for pool in self._routes.pools.values() for unit in pool.units()]
        return DispatchStatistics(
            admitted=self.admission.admitted,
            done=self._done,
            expired=self._expired,
            dropped=self._dropped,
            cancelled=self._cancelled,
            released=self._released,
            pending=self.admission.events,
            pending_bytes=self.admission.bytes,
            parked=self._parking.count,
            after_timeouts=self._parking.timeouts,
            demoted=self.admission.demoted,
            refused=dict(self._triage.refused + self.admission.refusals),
            waiting=tuple(sum(unit.depth(lane) for unit in units) for lane in Lane),
            pools={name: pool.waiting for name, pool in self._routes.pools.items()},
            oldest={name: at for name, pool in self._routes.pools.items() if (at := pool.oldest) is not None},
            limits={name: pool.backlog.limits() for name, pool in self._routes.pools.items() if pool.backlog.limited},
        )

    # -- inside ---------------------------------------------------------------------------------

    def _enqueue(self, env: Envelope, now: float) -> str | PeerProtocolError:
        """Queue one that is not to be queued blindly: it may name another, be large, or have to be placed."""
        try:
            row = self._rows.get(env[2]) or self._routes.resolve(env[2])
            pool = row.pool or row.choose(env)
        except PeerProtocolError as error:
            return error
        if pool is None:
            return self._routes.untaken(env)
        if env[10] or self._parking.count:
            chain = (env[TENANT], env[SESSION], env[PRODUCER], env[LANE], pool.name)
            if self._parking.offer(chain, env, blocker_of(env), now):
                return ""
            if env[10]:
                env = (*env[:10], "", *env[11:])
        self._put(pool, env, row.text)
        return pool.name

    def _put(self, pool: PoolQueues, env: Envelope, text: bool) -> None:
        if text and len(env[11]) > self.policy.part_bytes:
            pool.push_parts(env, self.policy.part_bytes)
        else:
            pool.place(env).push(env)

    def _over_due(self, queues: PoolQueues, unit: Scheduler, now: float) -> None:
        if unit.has_expired:
            ended = self._end(queues, unit.expired())
            self._expired += len(ended)
            self._over += ended
            queues.backlog.missed(ended, now)
        if unit.has_dropped:
            ended = self._end(queues, unit.dropped())
            self._dropped += len(ended)
            self._thinned += ended

    def _end(self, pool: PoolQueues | None, envs: list[Envelope]) -> list[Envelope]:
        """End events that will not be handed out; each comes back once, however many parts it was in."""
        ended: list[Envelope] = []
        for env in envs:
            if not self.admission.release((env,)):  # ended with an earlier part of it
                continue
            if env[10]:
                if pool is not None and part_of(env) is not None:
                    pool.drop_parts(env)
                env = (*env[:10], "", *env[11:])
            ended.append(env)
            if self._parking.count:
                self._settle(env)
        return ended

    def _settle(self, env: Envelope) -> None:
        self._resume(self._parking.over((env[TENANT], env[SESSION], env[PRODUCER], env[COUNTER])))

    def _resume(self, released: list[tuple[Chain, Envelope]]) -> None:
        """Queue what was parked, in the pool it was parked for."""
        for chain, env in released:
            self._put(self._routes.pool(chain[4]), env, self._routes.resolve(env[2]).text)
            self._woken.add(chain[4])
