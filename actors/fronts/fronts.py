"""The sessions of a cluster, as one front sees them: here, or wherever they are at home.

Law of this file: what is at home here costs one look into a table, and not one await more than with one
front. Everything else is asked where it is at home, and asked again elsewhere if that front is lost,
shuts down or has it no more, until a deadline. Who is asked decides for itself whether it is the one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.directory.entry import Joined
from laneway.actors.directory.topics import check_topic
from laneway.actors.fronts.couriers import Couriers
from laneway.actors.fronts.parcels import Parcels
from laneway.actors.fronts.relay import Relay
from laneway.actors.homes.deeds import Life
from laneway.actors.homes.homes import Homes
from laneway.actors.homes.ways import Ways
from laneway.actors.hosts.peers import Peer
from laneway.actors.hosts.questions import Questions
from laneway.actors.ports import Principal
from laneway.actors.sessions.arrivals import Speaker
from laneway.actors.sessions.session import session_key
from laneway.actors.spans import SpanValue
from laneway.routing.envelope import COUNTER, SESSION, TENANT, Envelope
from laneway.routing.errors import (
    DeadlineExceeded,
    Draining,
    Fenced,
    HostLost,
    LanewayError,
    LinkLost,
    PeerProtocolError,
    RuntimeUnavailable,
    UnknownSession,
)
from laneway.routing.handshake import Hello
from laneway.routing.membership import View

__all__ = ["Fronts"]

_log: Final = logging.getLogger(__name__)
_SERVICE: Final = "fronts"
_ANSWER_S: Final = 30.0
"""As an edge waits for the answer to an event."""
_PUBLISH_S: Final = 10.0
_RETRY_S: Final = 1.0


class Fronts:
    """Implements `Entry` and `Outlet` for a front among others. Lives on one event loop.

    Args:
        homes: this front's; the directory's too. ways: to the others.
        on_lost: told of the lives of fronts that are over, after their places were forgotten.
        on_given_up: told which homes (keys of their logs; None = all) are other fronts' by now.
    """

    def __init__(
        self,
        homes: Homes,
        directory: SessionDirectory,
        *,
        ways: Ways,
        relay: Relay,
        couriers: Couriers,
        questions: Questions,
        parcels: Parcels,
        on_lost: Callable[[set[Life]], None] = lambda lives: None,
        on_given_up: Callable[[set[str] | None, Fenced], None] = lambda keys, error: None,
    ) -> None:
        self.homes = homes
        self._ways = ways
        self._directory = directory
        self._relay = relay
        self._couriers = couriers
        self._questions = questions
        self._parcels = parcels
        self._on_lost = on_lost
        self._on_given_up = on_given_up
        self._left_by: set[Life] = set()
        self._search_all = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovering = False
        homes.on_stale = self._stale
        questions.serve(_SERVICE, self._answer)

    # -- Entry ----------------------------------------------------------------------------------

    async def attach(self, hello: Hello, principal: Principal, origin: Mapping[str, SpanValue] = {}) -> Joined:
        """Open or resume a link, wherever the session is at home."""
        here = partial(self._directory.attach, hello, principal, origin)
        if self._directory.draining or self._directory.find(principal.tenant, hello.session) is not None:
            return await here()
        key = session_key(principal.tenant, hello.session)
        return await self._ways.reach(key, here, lambda peer: self._relay.attach(peer, hello, principal, origin))

    async def ingest(self, session: str, speaker: Speaker, envelopes: Sequence[Envelope]) -> None:
        """Take events in beside a link. For a session elsewhere it returns once they are answered."""
        home = self._directory.find(speaker.principal.tenant, session)
        if home is not None:
            home.ingest(speaker, envelopes)
            return
        key = session_key(speaker.principal.tenant, session)
        waiting = {env[COUNTER]: env for env in envelopes}
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._ways.reach(
                    key,
                    lambda: self._directory.ingest(session, speaker, list(waiting.values())),
                    lambda peer: self._relay.ingest(peer, session, speaker, waiting),
                    _ANSWER_S,
                )
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {_ANSWER_S:g} s; the events may have been taken") from None

    async def publish(self, tenant: str, topic: str, body: bytes, trace: str = "") -> int:
        """Send a PUBLISH event to every session that listens, on any front; returns how many took it.

        A front that cannot be asked counts as none. Raises as `Publications.publish`.
        """
        check_topic(topic)
        row = [tenant, topic, body, trace]
        elsewhere = [self._ask_to_publish(peer, row) for peer in self._ways.others()]
        own, *others = await asyncio.gather(
            self._directory.publish(tenant, topic, body, trace), *elsewhere, return_exceptions=True
        )
        if isinstance(own, BaseException):
            raise own
        return own + sum(count for count in others if isinstance(count, int))

    async def redrive(self, env: Envelope) -> None:
        """Dispatch an event again at its session's home. Raises the refusal."""
        key = session_key(env[TENANT], env[SESSION])
        ask = partial(self._ask, "redrive", self._parcels.pack((env,))[0])
        await self._ways.reach(key, lambda: self._directory.redrive(env), ask)

    def resumable(self, error: LanewayError) -> bool:
        """Whether attaching again goes on where the link ended: here, or with another front."""
        if isinstance(error, Draining):
            return not self._directory.draining
        return isinstance(error, LinkLost | Fenced | HostLost | RuntimeUnavailable)

    # -- Outlet, for what is told to sessions from outside their own handlers ---------------------

    def emit(self, env: Envelope) -> Coroutine[Any, Any, None]:
        """Emit one event at its session's home; waits for credit there."""
        return self.emit_all((env,))

    async def emit_all(self, envs: Sequence[Envelope]) -> None:
        """As `emit` for events of one session, in order. Raises UnknownSession if it sleeps, or its front is lost."""
        key = (envs[0][TENANT], envs[0][SESSION])
        home = self._directory.find(*key)
        if home is not None:
            await home.outbound.emit_all(envs)
            return
        await self._ways.reach(session_key(*key), partial(_asleep, key[1]), partial(self._hand, envs))

    async def _hand(self, envs: Sequence[Envelope], peer: Peer) -> None:
        """Hand over, but never twice: what the session was told before it was lost is in its log, or is not."""
        try:
            await self._couriers.hand(peer, envs)
        except HostLost as error:
            raise UnknownSession(f"the front of this session was lost: {error.message}", reason="LOST") from error

    # -- membership -----------------------------------------------------------------------------------

    def saw(self, view: View) -> None:
        """Take the newest membership view; what a lost front left is taken up here, as far as it is ours."""
        before = {life: self.homes.stood(life) for life in self.homes.company.others}
        self.homes.saw(view)
        if not self.homes.company.settled:
            return
        lost = set(before).difference(self.homes.company.others)
        if lost:
            self._ways.forget({life.name for life in lost})
            self._on_lost(lost)
        if not self.homes.shared:
            if astray := self.homes.astray():
                moved = Fenced("the cluster has changed, and this session begins anew elsewhere; connect again")
                self._directory.give_up(set(astray), moved)
                self._on_given_up(set(astray), moved)
        elif lost:
            self._left_by |= lost
            self._search_all = self._search_all or not all(before[life] for life in lost)
            if not self._recovering:
                self._recovering = True
                self._start(self._recover(), "take up what a lost front left")

    def drop(self) -> None:
        """This life was declared over: give everything up, write nothing more; `homes.begin` begins another."""
        self.homes.drop()
        self._ways.forget()
        gone = Fenced("this front was taken for dead, and others have its sessions; connect again")
        self._directory.give_up(None, gone)
        self._on_given_up(None, gone)

    def _stale(self, key: str, error: Fenced) -> None:
        self._directory.give_up({key}, error)
        self._on_given_up({key}, error)

    async def close(self) -> None:
        """End what is under way here; idempotent."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.homes.close()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recover(self) -> None:
        """Take up what lost fronts left, until there is no more of it; the store may be away for a while."""
        try:
            while self._left_by or self._search_all:
                left_by, self._left_by = self._left_by, set()
                every, self._search_all = self._search_all, False
                try:
                    await self._directory.recover(left_by=None if every else left_by)
                except Exception as error:  # whatever it is, nobody else takes it up
                    if self.homes.over or self._directory.draining:
                        return
                    foreseen = isinstance(error, LanewayError)
                    _log.warning(
                        *("what lost fronts left could not be taken up yet: %s", error),
                        exc_info=None if foreseen else error,
                    )
                    self._left_by |= left_by
                    self._search_all = self._search_all or every
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._recovering = False

    # -- what other fronts ask ------------------------------------------------------------------------

    async def _ask(self, method: str, arguments: Any, peer: Peer) -> Any:
        return await self._questions.ask(peer, _SERVICE, method, arguments, _PUBLISH_S)

    async def _ask_to_publish(self, peer: Peer, row: Sequence[Any]) -> int:
        try:
            return int(await self._ask("publish", row, peer))
        except LanewayError as error:
            _log.warning("front %s has not published on %s: %s", peer.name, row[1], error)
            return 0

    async def _answer(self, peer: Peer, method: str, arguments: Any) -> Any:
        if method == "publish":
            return await self._directory.publish(*arguments)
        if method == "redrive":
            (env,) = self._parcels.unpack((arguments,))
            return await self._directory.redrive(env)
        raise PeerProtocolError(f"{_SERVICE}.{method} is not answered here", reason="UNKNOWN_CALL")


async def _asleep(session: str) -> None:
    raise UnknownSession(f"session {session!r} sleeps; nobody is there to read", reason="ASLEEP")
