"""A host's sign of life: it beats its registry, sees who else does, and hears when it is over.

Law of this file: the registry is asked for nothing that traffic waits for. While it restarts, hangs
or cannot be reached, the last settled view stands and nobody is called lost; only its own word ends
an incarnation. One beat is under way at a time, each with a deadline, and none blocks the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from laneway.routing.errors import LanewayError
from laneway.routing.membership import Member, View, succeeding

__all__ = ["Answer", "Beats", "RegistryPort", "Terms"]

_log: Final = logging.getLogger(__name__)
_BREATH_S: Final = 0.02
"""Least pause between two beats: when many hosts join at once, each hears of several by one beat."""


class Terms(NamedTuple):
    """What a registry agrees with whoever joins.

    Attributes:
        secret: what the cluster's hosts show each other.
        beat_s, lost_s: as in RuntimeConfig; the registry's hold for all.
    """

    secret: str
    beat_s: float
    lost_s: float


class Answer(NamedTuple):
    """What a beat is answered.

    Attributes:
        view: who lives. error: None, or why this incarnation must not go on: HostLost (it was dropped; a
            new one is welcome), Draining (the cluster is being stopped), ConfigError (another version).
    """

    view: View
    error: LanewayError | None = None


class RegistryPort(Protocol):
    """The registry as its hosts use it; `registry.Registry` in a Ray cluster."""

    async def admit(self) -> Terms:
        """Ask to join. Raises ConfigError (another version), RuntimeUnavailable (cannot be reached)."""
        ...

    async def beat(self, member: Member, seen: int) -> Answer:
        """Say that `member` lives; answered when the view has another number than `seen`, or after beat_s.

        Raises RuntimeUnavailable if it cannot be reached.
        """
        ...

    async def leave(self, name: str, incarnation: str) -> None:
        """Say goodbye. Raises RuntimeUnavailable."""
        ...


class Beats:
    """One incarnation's signs of life, from `start` until `close` or its end.

    Args:
        member: who beats. terms: what its registry agreed.
        saw: called with each new view, on this loop. An unsettled view takes nobody away that an earlier
            one had.
        over: called once, if this incarnation is over, with the error of `Answer`; no beat follows. After
            HostLost the host gives up what it holds and begins anew: a new incarnation, new Beats.

    Attributes:
        view: the last one given to `saw`.
    """

    def __init__(
        self,
        registry: RegistryPort,
        member: Member,
        terms: Terms,
        *,
        saw: Callable[[View], None],
        over: Callable[[LanewayError], None],
    ) -> None:
        self.view = View(-1, (), settled=False)
        self._registry = registry
        self._member = member
        self._saw = saw
        self._over = over
        self._deadline_s = terms.lost_s / 2  # with the pause below less than lost_s: a restarted registry hears
        self._pause_s = terms.beat_s / 2  # everybody before its view is settled
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first view comes with the first answer."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"beats-{self._member.name}")

    async def close(self) -> None:
        """Say goodbye, so that nobody waits for this host, and end. Takes at most lost_s / 2. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._registry.leave(self._member.name, self._member.incarnation)
        except Exception as error:  # what is to be closed after this is closed in any case
            _log.info("the registry did not hear that %s leaves, and will notice: %s", self._member.name, error)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._deadline_s):
                    answer = await self._registry.beat(self._member, self.view.number)
            except Exception as error:  # whatever it is: nobody else gives this host's signs of life
                self._failed(error)
                await asyncio.sleep(self._pause_s)
                continue
            if self._failures:
                _log.info("the registry answers %s again", self._member.name)
            self._failures = 0
            if answer.error is not None:
                _log.warning("%s (incarnation %s) is over: %s", *self._member[:2], answer.error.message)
                self._over(answer.error)
                return
            self._take(answer.view)
            await asyncio.sleep(_BREATH_S)

    def _take(self, view: View) -> None:
        if view.number == self.view.number:
            return
        self.view = succeeding(self.view, view)
        try:
            self._saw(self.view)
        except Exception:
            _log.exception("%s could not take a view of the cluster", self._member.name)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            why = f"no answer within {self._deadline_s:g} s" if isinstance(error, TimeoutError) else error
            foreseen = isinstance(error, LanewayError | TimeoutError)
            _log.warning(
                *("the registry does not answer %s, the last view stands: %s", self._member.name, why),
                exc_info=None if foreseen else error,
            )
