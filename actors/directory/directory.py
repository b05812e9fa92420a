"""Where the sessions of one process live: found by (tenant, name), opened once, put to sleep.

Law of this file: at most one home per session in this process (and, by the store's generation,
in the world); opening is single-flight; whatever an actor emits finds its home through here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from laneway.actors.directory.burials import Burials
from laneway.actors.directory.deliveries import DeliveryJournal
from laneway.actors.directory.departures import Departures
from laneway.actors.directory.openings import Openings
from laneway.actors.directory.publications import Publications
from laneway.actors.directory.recovery import UNREADABLE, Recovery
from laneway.actors.directory.topics import Topics
from laneway.actors.dispatch.door import DispatchPort
from laneway.actors.homes.deeds import Life
from laneway.actors.meters import SessionMeters
from laneway.actors.packer import Packer
from laneway.actors.ports import Claim, Clock, Journal, Principal, Probe, Store
from laneway.actors.sessions.arrivals import Speaker
from laneway.actors.sessions.attachment import Attachment
from laneway.actors.sessions.census import Census, DirectoryStatistics
from laneway.actors.sessions.session import SessionHome, SessionPolicy, session_key
from laneway.actors.spans import SpanValue, Tracer
from laneway.routing.classify import KindTable
from laneway.routing.envelope import SESSION, TENANT, Envelope
from laneway.routing.errors import (
    Draining,
    Fenced,
    LanewayError,
    LinkLost,
    PeerProtocolError,
    StoreError,
)
from laneway.routing.handshake import Hello
from laneway.routing.lanes import Lane
from laneway.routing.shedding import Shedding
from laneway.routing.unread import Unread

if TYPE_CHECKING:
    from laneway.actors.homes.homes import Homes
    from laneway.actors.outlets import Add

__all__ = ["SessionDirectory"]

_MAX_SESSIONS: Final = 20_000


class SessionDirectory:
    """Implements the Entry and Outlet ports over session homes.

    Args:
        store: open store.
        homes: says which sessions are this front's, if there may be several; without it all are.
        link_ids: fresh ids for links.
        wall: UNIX seconds, for dead letters.
        observe: called with ("in" | "out", events) for the events of any session.
        max_sessions: homes awake at once; beyond it new sessions are refused (Overloaded).
        probe: what homes count and measure; see `SessionMeters`.
        shedding: has the level of overload; from level 2 on sessions that are not awake get no links.

    Attributes:
        unreadable: (tenant, session) -> why its log cannot be read; opening raises StoreError. draining: refuses links.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        kinds: KindTable,
        packer: Packer,
        policy: SessionPolicy,
        link_ids: Callable[[], str],
        wall: Callable[[], float],
        max_sessions: int = _MAX_SESSIONS,
        observe: Callable[[str, Sequence[Envelope]], None] = lambda direction, envs: None,
        probe: Probe | None = None,
        tracer: Tracer | None = None,
        homes: Homes | None = None,
        shedding: Shedding | None = None,
    ) -> None:
        self.topics = Topics()
        self.unreadable: dict[tuple[str, str], str] = {}
        self._store = store
        self._placed = homes
        self._clock = clock
        self._burials = Burials(store, packer, clock, wall)
        self._make_home = partial(
            SessionHome,
            store=store,
            clock=clock,
            kinds=kinds,
            packer=packer,
            policy=policy,
            link_ids=link_ids,
            on_gone=self._lose,
            observe=observe,
            meters=SessionMeters(probe),
            tracer=tracer,
            shedding=shedding,
        )
        self._shedding = shedding or Shedding()
        self._dispatcher: DispatchPort | None = None
        self._homes: dict[tuple[str, str], SessionHome] = {}
        self._openings = Openings[SessionHome](max_sessions, self._homes)
        self._closing: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._departures, self._census = Departures(max_sessions), Census(max_sessions)
        self._publications = Publications(self.topics, kinds, clock, self.emit)
        self.draining = False

    def bind(self, dispatcher: DispatchPort) -> None:
        """Name the dispatcher (it needs this directory too, so it comes second)."""
        self._dispatcher = dispatcher

    async def open(self, tenant: str, session: str) -> SessionHome:
        """Return the home, claiming and rebuilding it if it sleeps.

        Raises StoreError, Overloaded, and Fenced (ELSEWHERE) if it is at home with another front.
        """
        if (home := self._homes.get((tenant, session))) is not None:
            return home
        home = await self._openings.wait((tenant, session), self._open)
        if self._homes.get((tenant, session)) is home:
            return home
        return await self.open(tenant, session)  # it was put to sleep, or lost, before it was this caller's turn

    async def _open(self, tenant: str, session: str) -> SessionHome:
        assert self._dispatcher is not None, "bind() comes before the first session"
        while (closing := self._closing.get((tenant, session))) is not None:
            await asyncio.wait([closing])  # the log is still being written
        key = session_key(tenant, session)
        claim = await (self._store.claim(key) if self._placed is None else self._placed.claim(key))
        home = self._make_home(tenant, session, claim, dispatcher=self._dispatcher)
        try:
            await self._restore(home, claim)
        except BaseException:
            await self._release(key)
            raise
        if self._placed is not None and not self._placed.holds(key):
            raise Fenced("this session was lost to another front while it was opened; ask again")
        # what recovery queues finds its home: no await between the two
        self._homes[tenant, session] = home
        self._openings.arrived((tenant, session))
        self._departures.back((tenant, session))
        home.recover()
        with contextlib.suppress(LanewayError):  # sweep tries again
            await self._burials(home)
        return home

    async def _restore(self, home: SessionHome, claim: Claim) -> None:
        """Rebuild a home; whatever a damaged log makes go wrong is the log's fault, not the client's."""
        key = (home.tenant, home.name)
        self.unreadable.pop(key, None)
        try:
            await home.restore(claim)
        except StoreError:
            raise
        except Exception as error:
            why = self.unreadable[key] = f"{type(error).__name__}: {error}"[:200]
            told = f"the log of session {home.name!r} cannot be read ({why}); use another session"
            raise StoreError(told, reason=UNREADABLE) from error

    async def attach(
        self, hello: Hello, principal: Principal, origin: Mapping[str, SpanValue] = {}, *, relayed: bool = False
    ) -> Attachment:
        """Attach a client to its session, in the principal's tenant.

        Args:
            relayed: another front took the link in; one to a session that is awake is served during a shutdown too.
        """
        awake = (principal.tenant, hello.session) in self._homes
        if self.draining and not (relayed and awake):
            raise Draining("this engine is shutting down; connect to another one", retry_after_ms=1000)
        if not awake and (refusal := self._shedding.refuse(Lane.NORMAL, starts_run=False, new=True)) is not None:
            raise refusal
        home = await self.open(principal.tenant, hello.session)
        try:
            attachment = home.attach(hello, principal, origin)
        except PeerProtocolError as error:
            # a cursor ahead of this home: the client is wrong, or another host has gone on since
            if error.reason != "OUT_OF_RANGE" or await home.holds():
                raise
            home = await self.open(principal.tenant, hello.session)
            attachment = home.attach(hello, principal, origin)
        for topic in ("tenant", f"user:{principal.subject}", *hello.topics):
            self.topics.join(principal.tenant, hello.session, topic)
        return attachment

    async def ingest(self, session: str, speaker: Speaker, envelopes: Sequence[Envelope]) -> None:
        """Take events in beside a link."""
        home = self._homes.get((speaker.principal.tenant, session))
        (home or await self.open(speaker.principal.tenant, session)).ingest(speaker, envelopes)

    async def redrive(self, env: Envelope) -> None:
        """Dispatch an event again that was given up. Raises the refusal."""
        await self.open(env[TENANT], env[SESSION])
        assert self._dispatcher is not None, "open() has asked for it"
        (answer,) = self._dispatcher.admit_batch((env,))
        if not isinstance(answer, tuple):
            raise answer
        self._dispatcher.enqueue_batch((answer,))

    def resumable(self, error: LanewayError) -> bool:
        """Whether attaching again goes on where the link ended: if only its client was silent."""
        return isinstance(error, LinkLost)

    def find(self, tenant: str, session: str) -> SessionHome | None:
        """Return the home if it is awake."""
        return self._homes.get((tenant, session))

    def homes(self) -> list[SessionHome]:
        """Return the homes that are awake."""
        return list(self._homes.values())

    @property
    def journal(self) -> Journal | None:
        """Who records the starts of handlers: the sessions' logs, or nobody if the store dies with the process."""
        return DeliveryJournal(self.find) if self._store.durable else None

    def emit(self, env: Envelope) -> Coroutine[Any, Any, None]:
        """Outlet: hand an event to its session's home; waits for credit."""
        home = self._homes.get((env[TENANT], env[SESSION]))
        return self._wake_for((env,)) if home is None else home.outbound.emit(env)

    def emit_now(self, env: Envelope) -> bool:
        """See `outlets.EmitsNow`."""
        home = self._homes.get((env[3], env[4]))
        return home is not None and home.outbound.emit_now(env)

    def gathering(self, tenant: str, session: str, run: str, kind: str, entity: str) -> Add | None:
        """Return what adds to the text that a session holds back anyway, if it does; see `outlets.Gathers`."""
        home = self._homes.get((tenant, session))
        return None if home is None else home.outbound.gathering(run, kind, entity)

    def when_unread(self, tenant: str, session: str, run: str, policy: Unread) -> None:
        """Say what becomes of a run that nobody reads; see `outlets.Steers`."""
        if (home := self._homes.get((tenant, session))) is not None:
            home.outbound.unread.set(run, policy)

    def emit_all(self, envs: Sequence[Envelope]) -> Coroutine[Any, Any, None]:
        """Outlet: hand events, at least one and all of one session, to its home; waits for credit."""
        home = self._homes.get((envs[0][TENANT], envs[0][SESSION]))
        return self._wake_for(envs) if home is None else home.outbound.emit_all(envs)

    def emit_ready(self, envs: Sequence[Envelope]) -> int:
        """As `emit_all` for the first of them, up to one that must wait; returns how many. See `sayings.Ready`."""
        home = self._homes.get((envs[0][TENANT], envs[0][SESSION]))
        return 0 if home is None else home.outbound.emit_ready(envs)

    async def _wake_for(self, envs: Sequence[Envelope]) -> None:
        """Emit events of a session that sleeps."""
        key = (envs[0][TENANT], envs[0][SESSION])
        if self._departures.taken(key):
            raise Fenced("another host has this session; what runs here does not speak for it any more")
        await (await self.open(*key)).outbound.emit_all(envs)

    def principal_of(self, env: Envelope) -> Principal:
        """Return who is behind an event."""
        home = self._homes.get((env[TENANT], env[SESSION]))
        return Principal("", env[TENANT]) if home is None else home.ingress.principal_of(env)

    def messages(self, tenant: str, session: str) -> list[dict[str, Any]]:
        """Return a session's AG-UI messages, oldest first (empty if it sleeps)."""
        home = self._homes.get((tenant, session))
        return [] if home is None else home.messages()

    def publish(self, tenant: str, topic: str, body: bytes, trace: str = "") -> Coroutine[Any, Any, int]:
        """Send a PUBLISH event to every session that listens; see `Publications.publish`."""
        return self._publications.publish(tenant, topic, body, trace)

    async def recover(
        self, progress: Callable[[int, int], None] | None = None, left_by: Collection[Life] | None = None
    ) -> int:
        """Take up what was left in every session of the store that is ours to take; see `unreadable`.

        Args:
            progress: called with (done, total).
            left_by: only what was at home with these lives of fronts.

        Returns how many had unfinished work. O(sessions in the store).
        """
        taking = Recovery(self._store, self._placed, find=self.find, open=self.open, rest=self._sleep)
        return await taking.run(progress, left_by)

    def give_up(self, keys: Collection[str] | None, error: Fenced) -> None:
        """End homes here without writing anything more, as if they were fenced.

        Args:
            keys: of their logs; None = all.
        """
        for home in self.homes():
            if keys is None or session_key(home.tenant, home.name) in keys:
                home.give_up(error)

    async def sweep(self) -> None:
        """Trim logs and put idle homes to sleep; the engine calls it every few seconds."""
        for home in self.homes():
            if home.idle:
                await self._sleep(home)
            else:
                with contextlib.suppress(LanewayError):  # the committer reports a sick store
                    await self._burials(home)
                    await home.maintain()
        if self._dispatcher is not None:
            self._departures.sweep(self._dispatcher.forget)

    async def flush(self) -> None:
        """Return when everything emitted so far is in the store."""
        await asyncio.gather(*(home.flush() for home in self.homes()))

    def drain(self, retry_after_ms: int) -> None:
        """Refuse new links and tell the present ones to go elsewhere."""
        self._shut()
        for home in self.homes():
            home.links.tell(
                notice={
                    "code": "DRAINING",
                    "message": "this engine is shutting down; runs have until its deadline",
                    "retryable": True,
                    "retry_after_ms": retry_after_ms,
                }
            )

    async def close(self) -> None:
        """Write everything, end all links, forget all homes; idempotent."""
        self._shut()
        await self._openings.close()
        error = Draining("this engine has shut down; connect again", retry_after_ms=1000)
        await asyncio.gather(*(self._close(home, error) for home in self.homes()))

    def _shut(self) -> None:
        self.draining = True
        if self._placed is not None:
            self._placed.draining = True

    def statistics(self) -> DirectoryStatistics:
        """Return the gauges of this moment. O(sessions awake)."""
        return self._census.of([home.statistics() for home in self.homes()])

    async def _sleep(self, home: SessionHome) -> None:
        if self._homes.get((home.tenant, home.name)) is home:  # else somebody is at it already
            await self._close(home, Draining("this session went to sleep; connect again", retry_after_ms=0))
            home.let_go()

    async def _close(self, home: SessionHome, error: LanewayError) -> None:
        """Forget a home at once, so that nothing new reaches it; whoever opens it again waits for its end."""
        key = (home.tenant, home.name)
        if not self._forget(home):
            return
        closing = self._closing[key] = asyncio.get_running_loop().create_future()
        try:
            await home.finish()
            await self._release(session_key(*key))  # first: whose link ends comes back at once, and is placed anew
        finally:
            home.close(error)
            del self._closing[key]
            closing.set_result(None)

    async def _release(self, key: str) -> None:
        if self._placed is not None:
            await self._placed.release(key)

    def _forget(self, home: SessionHome) -> bool:
        if self._homes.get((home.tenant, home.name)) is not home:
            return False
        del self._homes[home.tenant, home.name]
        self._openings.left((home.tenant, home.name))
        self._departures.left((home.tenant, home.name))
        self.topics.leave(home.tenant, home.name)
        self._census.gone(home.statistics())
        return True

    def _lose(self, home: SessionHome) -> None:
        """Another host has this session: until a client asks for it here, nothing may open it again."""
        if self._placed is not None:
            self._placed.forget(session_key(home.tenant, home.name))
        if self._forget(home):
            self._departures.lost((home.tenant, home.name))
