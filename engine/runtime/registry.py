"""The cluster's registry: one named Ray actor that knows which hosts live, and the way to it.

Law of this file: it decides nothing that `Membership` does not, and nothing is lost with it: its
secret and its terms are arguments of its constructor, so that a restarted registry has them; who is a
member it hears again within one beat. Only plain data crosses Ray. It stands for one version of
laneway, and hosts of another are refused with a sentence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from laneway.engine.runtime.beats import Answer, Terms
from laneway.engine.runtime.named_actor import ABSENT, ATTEMPTS, ENDED, NamedActor
from laneway.routing.errors import ConfigError, Draining, HostLost, LanewayError, RuntimeUnavailable
from laneway.routing.failures import error_fields, error_of_fields
from laneway.routing.membership import Member, Membership, View

__all__ = ["REGISTRY", "Registry", "RegistryActor", "Roll", "namespace_of"]

REGISTRY: Final = "registry"
_CALL_S: Final = 5.0
_MAX_PENDING_CALLS: Final = 64
"""Of one process: bounds what gathers before a registry that hangs."""


def namespace_of(cluster: str) -> str:
    """Return the Ray namespace of a cluster's actors."""
    return f"laneway/{cluster}"


class RegistryActor:
    """What runs in the actor; an async class, one loop.

    Args:
        secret: random; made by whoever creates the registry. version: of laneway, that all hosts share.
        beat_s, lost_s: of all hosts. clock: monotonic seconds.
    """

    def __init__(
        self, secret: str, version: str, beat_s: float, lost_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._terms = Terms(secret, beat_s, lost_s)
        self._version = version
        self._stopping = ""
        self._table = Membership(lost_s, clock(), number=int(time.time() * 1000))
        self._changed = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def admit(self, version: str) -> tuple[Any, ...]:
        """Return (secret, beat_s, lost_s, error fields or None)."""
        self._begin()
        refused = self._refusal(version)
        return (*(self._terms if refused is None else ("", 0.0, 0.0)), _fields(refused))

    async def beat(self, member: tuple[Any, ...], seen: int) -> tuple[Any, ...]:
        """Return (number, members, settled, error fields or None) once `seen` is out of date, or after beat_s."""
        self._begin()
        host = _member(member)
        self._table.exceed(seen)
        refused = self._refusal(host.version) or self._heard(host)
        if refused is None and self._table.view().number == seen:
            try:
                async with asyncio.timeout(self._terms.beat_s):
                    await self._changed.wait()
            except TimeoutError:
                pass  # nothing new is an answer
            refused = self._refusal(host.version)
        number, members, settled = self._table.view()
        return number, tuple(map(tuple, members)), settled, _fields(refused)

    async def leave(self, name: str, incarnation: str) -> None:
        """Take a goodbye."""
        number = self._table.view().number
        self._table.leave(name, incarnation)
        self._tell(number)

    async def roll(self) -> tuple[Any, ...]:
        """Return (version, settled, ((member, seconds since its last beat), ...))."""
        self._begin()
        now = self._clock()
        self._table.poll(now)
        heard = tuple((tuple(member), silent_s) for member, silent_s in self._table.heard(now))
        return self._version, self._table.view().settled, heard

    async def stop(self, why: str) -> None:
        """End the cluster: whoever beats from now on is told so."""
        self._stopping = why
        self._ring()

    def _heard(self, host: Member) -> LanewayError | None:
        number = self._table.view().number
        alive = self._table.beat(host, self._clock())
        self._tell(number)
        if alive:
            return None
        return HostLost(
            f"{host.name} was silent for {self._terms.lost_s:g} s, or another process has taken its name; others have "
            "taken over, so it must give up what it holds and begin anew",
            reason="DROPPED",
        )

    def _refusal(self, version: str) -> LanewayError | None:
        if self._stopping:
            return Draining(self._stopping, reason="STOPPED")
        if version == self._version:
            return None
        return ConfigError(
            f"this host has laneway {version or 'of unknown version'}, its cluster has {self._version}: install the "
            "same version everywhere, or give this engine a cluster of its own (runtime.cluster)",
            reason="VERSION",
        )

    def _begin(self) -> None:
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._look(), name="registry-watch")

    async def _look(self) -> None:
        """Look often enough that silence is noticed also where nobody else beats."""
        while True:
            now = self._clock()
            number = self._table.view().number
            self._table.poll(now)
            self._tell(number)
            await asyncio.sleep(max(0.001, min(self._table.deadline() - now, self._terms.lost_s / 4)))

    def _tell(self, number: int) -> None:
        if self._table.view().number != number:
            self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Roll(NamedTuple):
    """Who is in the cluster, for people who look.

    Attributes:
        version: of laneway. settled: False soon after the registry began.
        heard: members by name, with the seconds since their last beat.
    """

    version: str
    settled: bool
    heard: tuple[tuple[Member, float], ...]


class Registry:
    """A process's way to its cluster's registry; implements `RegistryPort`.

    Args:
        version: of laneway in this process.

    Who has created the registry, or found it when it wanted to, makes it anew with the same secret should
    it be gone for good.
    """

    def __init__(self, cluster: str, version: str) -> None:
        self._actor = NamedActor(REGISTRY, namespace_of(cluster))
        self._version = version
        self._creates = False
        self._terms: Terms | None = None

    async def admit(self, within_s: float = _CALL_S) -> Terms:
        """Ask to join. Raises ConfigError (another version), Draining, RuntimeUnavailable."""
        *terms, error = await self._actor.call("admit", self._version, timeout_s=within_s, attempts=ATTEMPTS)
        if error is not None:
            raise error_of_fields(error)
        self._terms = Terms(*terms)
        return self._terms

    async def beat(self, member: Member, seen: int) -> Answer:
        """As `RegistryPort.beat`; the caller has the deadline."""
        try:
            answered = await self._actor.call("beat", tuple(member), seen, timeout_s=None)
        except RuntimeUnavailable as down:
            if down.reason in (ABSENT, ENDED) and self._creates and self._terms is not None:
                await self.create(self._terms)
            raise
        number, members, settled, error = answered
        view = View(number, tuple(map(_member, members)), settled)
        return Answer(view, None if error is None else error_of_fields(error))

    async def leave(self, name: str, incarnation: str) -> None:
        """Say goodbye. Raises RuntimeUnavailable."""
        await self._actor.call("leave", name, incarnation, timeout_s=_CALL_S)

    async def roll(self) -> Roll:
        """Return who is there. Raises RuntimeUnavailable."""
        version, settled, heard = await self._actor.call("roll", timeout_s=_CALL_S)
        return Roll(version, settled, tuple((_member(member), silent_s) for member, silent_s in heard))

    async def stop(self, why: str) -> None:
        """Tell every host that the cluster ends. Raises RuntimeUnavailable."""
        await self._actor.call("stop", why, timeout_s=_CALL_S)

    async def end(self) -> None:
        """Kill it, and wait until its name is free. Raises RuntimeUnavailable."""
        await self._actor.end(within_s=_CALL_S)

    async def create(self, terms: Terms) -> None:
        """Make the registry with these terms, unless there is one. Raises RuntimeUnavailable."""
        self._creates = True
        try:
            async with asyncio.timeout(_CALL_S):
                await asyncio.to_thread(self._create, terms)
        except TimeoutError as error:
            raise RuntimeUnavailable(f"Ray did not make the registry of {self._actor.namespace} in time") from error

    def _create(self, terms: Terms) -> None:
        import ray
        from ray.exceptions import RayError

        options = ray.remote(RegistryActor).options(
            name=self._actor.name,
            namespace=self._actor.namespace,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            max_pending_calls=_MAX_PENDING_CALLS,
        )
        try:
            options.remote(terms.secret, self._version, terms.beat_s, terms.lost_s)
        except (RayError, ValueError) as error:  # ValueError: of two that create it at once, one is too late
            raise RuntimeUnavailable(f"the registry of {self._actor.namespace} cannot be made: {error}") from error


def _member(fields: tuple[Any, ...]) -> Member:
    member = Member(*fields)
    return member._replace(pools=tuple(member.pools))


def _fields(error: LanewayError | None) -> list[Any] | None:
    return None if error is None else error_fields(error)
