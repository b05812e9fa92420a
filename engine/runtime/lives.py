"""A host's lives, one after the other: start the program, be a member, begin anew when dropped.

Law of this file: each life is a new incarnation with a new program, and the former one is closed before.
A program that cannot start because something is set up wrongly stays failed, and the host stays to say
so; anything else is tried again. Nothing here knows Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from laneway.engine.runtime.beats import Beats, RegistryPort, Terms
from laneway.engine.runtime.program import HostFacts, Presence, Program
from laneway.routing.errors import ConfigError, Draining, HostLost, LanewayError, RuntimeUnavailable
from laneway.routing.membership import Member

__all__ = ["Lives", "new_incarnation"]

_log: Final = logging.getLogger(__name__)
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_CLOSE_S: Final = 10.0


def new_incarnation() -> str:
    """Return a random name for one life of a host."""
    return os.urandom(8).hex()


class Lives:
    """The lives of one host.

    Args:
        make: makes the program. facts: of the host; each life has its own incarnation and the registry's secret.
        start_s: how long a program may take to start.
        stopped: called when the whole cluster is being stopped: a front then drains itself; a pool host
            serves on until whoever stops the cluster has drained it.

    Attributes:
        member: of the present life, or None.
    """

    def __init__(
        self,
        make: Callable[[], Program],
        facts: HostFacts,
        registry: RegistryPort,
        *,
        start_s: float,
        stopped: Callable[[LanewayError], None] = lambda error: None,
    ) -> None:
        self.member: Member | None = None
        self._make = make
        self._facts = facts
        self._registry = registry
        self._start_s = start_s
        self._stopped = stopped
        self._program: Program | None = None
        self._failure: LanewayError | None = None
        self._told = asyncio.Event()  # whether this life has started, one way or the other
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Live until `stop`."""
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                error = await self._live()
            except Exception as failed:
                error = self._failed(failed)
                await self._rest(None if isinstance(error, ConfigError) else pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            pause_s = _FIRST_PAUSE_S
            if error is not None and not isinstance(error, HostLost):
                self._failure = error
                self._told.set()
                await self._rest(None)

    async def ready(self) -> Member:
        """Wait until the present life has started. Raises what kept it from starting; the caller has the deadline."""
        await self._told.wait()
        if self._failure is not None:
            raise self._failure
        if self.member is None:
            raise RuntimeUnavailable(f"{self._facts.name} was stopped", reason="STOPPED")
        return self.member

    async def drain(self, deadline_s: float) -> None:
        """Let the program end what is under way."""
        if self.member is not None and self._program is not None:
            await self._program.drain(deadline_s)

    def stop(self) -> None:
        """End this life, and begin no other; `run` then returns."""
        self._stop.set()

    def statistics(self) -> Mapping[str, Any]:
        """Return what the program says, and how the host is: `state` ready, starting or failed, `failure`."""
        own = self._program.statistics() if self.member is not None and self._program is not None else {}
        state = "ready" if self.member is not None else "starting" if self._failure is None else "failed"
        return {**own, "state": state, "failure": "" if self._failure is None else self._failure.message}

    async def _live(self) -> LanewayError | None:
        """Live once. Returns why it was over, None if it was stopped; raises if it could not start."""
        over: asyncio.Future[LanewayError] = asyncio.get_running_loop().create_future()
        program, beats = self._make(), None
        self._program = program
        try:
            async with asyncio.timeout(self._start_s):
                terms, member = await self._started(program)
            beats = self._begin(program, member, terms, over)
            error = await self._end_of(over)
            self.member = None
            if error is not None:
                self._told.clear()
                program.dropped(error)
            return error
        finally:
            await self._close(program, beats)

    async def _end_of(self, over: asyncio.Future[LanewayError]) -> LanewayError | None:
        """Wait until the registry says that this life is over, or `stop` is called."""
        stopped = asyncio.ensure_future(self._stop.wait())
        ends: set[asyncio.Future[Any]] = {over, stopped}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        return over.result() if over.done() else None

    async def _started(self, program: Program) -> tuple[Terms, Member]:
        terms = await self._registry.admit()
        facts = self._facts._replace(incarnation=new_incarnation(), secret=terms.secret)
        presence: Presence = await program.start(facts)
        return terms, Member(
            name=facts.name,
            incarnation=facts.incarnation,
            role=presence.role,
            address=presence.address,
            node=facts.node,
            pid=facts.pid,
            pools=tuple(presence.pools),
            version=facts.version,
        )

    def _begin(self, program: Program, member: Member, terms: Terms, over: asyncio.Future[LanewayError]) -> Beats:
        def ended(error: LanewayError) -> None:
            if isinstance(error, Draining):
                self._stopped(error)
            else:
                over.set_result(error)

        beats = Beats(self._registry, member, terms, saw=program.saw, over=ended)
        beats.start()
        self.member, self._failure = member, None
        self._told.set()
        _log.info("%s lives at %s (incarnation %s)", member.name, member.address, member.incarnation)
        return beats

    async def _close(self, program: Program, beats: Beats | None) -> None:
        if beats is not None:
            await beats.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await program.close()
        except Exception:
            _log.exception("the program of %s did not close cleanly", self._facts.name)

    def _failed(self, error: Exception) -> LanewayError:
        self._failure = self._told_as(error)
        self._told.set()
        _log.error("%s cannot start: %s", self._facts.name, self._failure.message, exc_info=error)
        return self._failure

    def _told_as(self, error: Exception) -> LanewayError:
        where = f"host {self._facts.name} on node {self._facts.node[:12]} ({self._facts.ip})"
        if isinstance(error, LanewayError):
            kind = ConfigError if isinstance(error, ConfigError) else RuntimeUnavailable
            return kind(f"{where} cannot start: {error.message}", reason=error.reason)
        if isinstance(error, TimeoutError):
            return RuntimeUnavailable(f"{where} had not started after {self._start_s:g} s", reason="START")
        return RuntimeUnavailable(f"{where} cannot start: {type(error).__name__}: {str(error)[:500]}", reason="START")

    async def _rest(self, pause_s: float | None) -> None:
        """Wait for the next try, or for the end; None waits for the end only."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stop.wait()
