"""All connections of one host: those it accepts, and those it has to open and keep open.

Law of this file: one connection per pair of hosts. Fronts dial pool hosts; of two fronts the smaller
name dials. A member is dialled for as long as it is one, after each break again with full jitter; a life
that is no longer a member is let go, and never let in again. Who receives is told of the loss of an
older connection to a host before it is told of a newer one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from laneway.actors.hosts.peers import Receiver
from laneway.actors.ports import Clock
from laneway.engine.peer.acceptor import Acceptor, bracketed
from laneway.engine.peer.connection import Connection
from laneway.engine.peer.dialler import Dialler
from laneway.engine.peer.handshake import Gate, Hello, Identity
from laneway.engine.peer.policy import PeerPolicy
from laneway.engine.peer.statistics import PeerStatistics
from laneway.engine.peer.watchdog import Watchdog
from laneway.engine.peer.wires import Wire
from laneway.engine.tls import Tls
from laneway.routing.backoff import Backoff
from laneway.routing.errors import ConfigError, Drained, HostLost, LanewayError, LocalProtocolError, RuntimeUnavailable
from laneway.routing.membership import FRONT, POOL, Member

__all__ = ["Plane", "must_dial"]

_log: Final = logging.getLogger(__name__)


def must_dial(role: str, name: str, member: Member) -> bool:
    """Return whether the host `name` of that role has to open the connection to `member`."""
    return role == FRONT and (member.role == POOL or (member.role == FRONT and name < member.name))


class _Followed:
    """A member that is kept connected."""

    __slots__ = ("connection", "member", "task")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.connection: Connection | None = None
        self.task: asyncio.Task[None]


class Plane:
    """The connections of one host.

    Args:
        name, incarnation: of this host. role: FRONT or POOL. version: of laneway; hosts of another are refused.
        receiver: is told of connections and messages, on the event loop of `start`.
        secret: what all hosts of the cluster know; 16 characters or more.
        tls: mutual TLS: our certificate, and as `client_ca` whose certificates count; None for plain text.
        tls_name: the name that stands in every host's certificate; empty: each carries its address.
        jitter: uniform in [0, 1).

    Attributes:
        unreached: name -> why the last attempt failed, of members that are not connected.

    Raises:
        ConfigError: name, incarnation, version, secret or TLS files are unusable.
    """

    def __init__(
        self,
        name: str,
        incarnation: str,
        receiver: Receiver,
        *,
        secret: str,
        clock: Clock,
        version: str,
        role: str = FRONT,
        policy: PeerPolicy | None = None,
        tls: Tls | None = None,
        tls_name: str = "",
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._role = role
        self._receiver = receiver
        self._clock = clock
        self._policy = policy = policy or PeerPolicy()
        self._jitter = jitter
        self._gate = Gate(Identity(name, incarnation, version), secret)
        if tls is not None and tls.client_ca is None:
            raise ConfigError("TLS between hosts is mutual: give the authority whose certificates count")
        self._acceptor = Acceptor(self._gate, policy, self._accepted, tls)
        self._dialler = Dialler(self._gate, policy, tls, tls_name)
        self._watchdog = Watchdog(self._live, clock=clock, policy=policy)
        self._connections: dict[str, Connection] = {}
        self._members: dict[str, Member] = {}
        self._followed: dict[str, _Followed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        self.unreached: dict[str, LanewayError] = {}

    @property
    def statistics(self) -> list[PeerStatistics]:
        """The live connections, by name."""
        return sorted(connection.statistics for connection in self._live())

    async def start(self, host: str) -> str:
        """Listen on a free port of `host`, an address that others reach; return HOST:PORT.

        Raises ConfigError: it cannot listen there, unusable TLS files, or a grpc that accepts TLS 1.2.
        """
        if self._watching is not None or self._closed:
            raise LocalProtocolError("a plane is started once; build a new one")
        port = await self._acceptor.start(host)
        self._watching = asyncio.create_task(self._watchdog.watch(), name="laneway-peer-watchdog")
        return f"{bracketed(host)}:{port}"

    def follow(self, members: Sequence[Member]) -> None:
        """Keep connected to those of these members that this side has to dial; drop what is gone.

        A member that was followed and is not among them, or is in another life, is over: its connection
        is closed, whoever opened it, and that life is let in no more. Hosts that were never among them
        are left alone. The caller gives settled views only (`routing.membership.View`): who is missing
        by mistake would stay out. Idempotent; linear in the members.
        """
        if self._closed or self._watching is None:
            raise LocalProtocolError("a plane follows members between start and close")
        now = {member.name: member for member in members if member.name != self._name}
        for name, member in self._members.items():
            if name not in now or now[name].incarnation != member.incarnation:
                self._drop(member)
        self._members = now
        for member in now.values():
            self._keep(member)

    async def close(self) -> None:
        """Close every connection, behind what was queued for it, and stop listening; idempotent."""
        self._closed = True
        self._acceptor.refusing = True
        if self._watching is None:
            return
        for followed in list(self._followed.values()):
            if followed.connection is None:
                followed.task.cancel()
        await asyncio.gather(*(connection.part(self._goodbye()) for connection in self._live()))
        while self._tasks:  # one that was about to come up adds another
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._acceptor.close()

    def _goodbye(self) -> Drained:
        return Drained(f"host {self._name} shuts down")

    # ---- members ----------------------------------------------------------------------------

    def _drop(self, member: Member) -> None:
        self._gate.bar(member.name, member.incarnation)
        self.unreached.pop(member.name, None)
        followed = self._followed.pop(member.name, None)
        if followed is not None and followed.connection is None:
            followed.task.cancel()
        connection = self._connections.get(member.name)
        if connection is not None and connection.incarnation == member.incarnation:
            connection.close(HostLost(f"host {member.name} is no longer a member of the cluster", reason="GONE"))

    def _keep(self, member: Member) -> None:
        followed = self._followed.get(member.name)
        if followed is not None:
            followed.member = member  # its address may be another by now
        elif must_dial(self._role, self._name, member):
            self._followed[member.name] = followed = _Followed(member)
            followed.task = self._own(self._hold(followed), f"laneway-peer-{member.name}")

    async def _hold(self, followed: _Followed) -> None:
        """Dial a member again and again until it is followed no more."""
        policy = self._policy
        backoff = Backoff(
            self._jitter,
            base_s=policy.backoff_base_s,
            cap_s=policy.backoff_cap_s,
            healthy_s=policy.healthy_s,
        )
        while self._wanted(followed):
            try:
                await self._dial(followed, backoff)
            except LanewayError as error:
                self._unreached(followed.member.name, error)
            except Exception as error:  # whatever it is, the next attempt must come
                _log.exception("dialling host %s failed", followed.member.name)
                why = f"host {followed.member.name} cannot be dialled: {type(error).__name__}: {str(error)[:500]}"
                self._unreached(followed.member.name, RuntimeUnavailable(why))
            finally:
                followed.connection = None
            if self._wanted(followed):
                await asyncio.sleep(backoff.failed(self._clock.now()))

    def _wanted(self, followed: _Followed) -> bool:
        return not self._closed and self._followed.get(followed.member.name) is followed

    async def _dial(self, followed: _Followed, backoff: Backoff) -> None:
        member = followed.member
        async with self._dialler.dial(member) as (hello, urgent, data):
            followed.connection = connection = self._connection(hello, urgent, data, dialled=True)
            self.unreached.pop(member.name, None)
            backoff.connected(self._clock.now())
            await self._live_on(connection)

    def _unreached(self, name: str, error: LanewayError) -> None:
        known = self.unreached.get(name)
        self.unreached[name] = error
        if known is None or known.message != error.message:
            _log.warning("not connected: %s", error.message)

    # ---- connections ------------------------------------------------------------------------

    def _accepted(self, hello: Hello, urgent: Wire, data: Wire) -> None:
        connection = self._connection(hello, urgent, data, dialled=False)
        if self._closed:
            connection.close(self._goodbye())
        self._own(self._live_on(connection), f"laneway-peer-{hello.name}")

    def _connection(self, hello: Hello, urgent: Wire, data: Wire, *, dialled: bool) -> Connection:
        older = self._connections.get(hello.name)
        if older is not None:
            older.close(HostLost(f"host {hello.name} has connected anew", reason="ANEW"))
        connection = Connection(
            hello, urgent, data, self._receiver, clock=self._clock, policy=self._policy, dialled=dialled
        )
        self._connections[hello.name] = connection
        return connection

    async def _live_on(self, connection: Connection) -> None:
        try:
            await asyncio.sleep(0)  # the loss of an older connection is told first
            await connection.live()
        finally:
            if self._connections.get(connection.name) is connection:
                del self._connections[connection.name]
            _log.info("the connection to host %s is over: %s", connection.name, connection.error)

    def _live(self) -> list[Connection]:
        return [connection for connection in self._connections.values() if connection.alive]

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
