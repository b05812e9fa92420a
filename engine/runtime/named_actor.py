"""A Ray actor that is found by its name: called without blocking the loop, found again after its end.

Law of this file: only plain data crosses; every call has a deadline, and what goes wrong on the way is
a RuntimeUnavailable. A handle is kept while it works: a restarted actor keeps its handle, one that was
ended and made anew gets a new one.

A reference is never awaited itself, which leaks in Ray 2.60 (ray#45895), and never cancelled: a call
that came too late for us may still be performed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from typing import Any, Final

from laneway.routing.errors import RuntimeUnavailable

__all__ = ["ABSENT", "ATTEMPTS", "CONTROL", "ENDED", "TIMEOUT", "NamedActor"]

CONTROL: Final = "control"
"""The concurrency group of a host's control calls."""
ATTEMPTS: Final = 5
"""For what may be asked twice: a call that was under way when an actor crashed fails, the next one waits for it."""
_AGAIN_S: Final = 0.2
_POLL_S: Final = 0.02
_FIND_S: Final = 5.0
ABSENT: Final = "ABSENT"
"""Reason of an error: nobody has the name."""
ENDED: Final = "ENDED"
"""Reason of an error: it was ended for good since it was found."""
TIMEOUT: Final = "TIMEOUT"
"""Reason of an error: no answer in time."""


class NamedActor:
    """A way to one actor.

    Args:
        name, namespace: where it is found. group: concurrency group its calls go to; empty = the default.

    Lives on one event loop.
    """

    def __init__(self, name: str, namespace: str, *, group: str = "") -> None:
        self.name = name
        self.namespace = namespace
        self._group = group
        self._handle: Any = None

    def adopt(self, handle: Any) -> None:
        """Keep the handle of an actor that was made just now; one that is not detached ends with its last handle."""
        self._handle = handle

    async def call(self, method: str, *arguments: object, timeout_s: float | None, attempts: int = 1) -> Any:
        """Return what a method answers.

        Args:
            timeout_s: for all of it; None leaves the deadline to the caller.
            attempts: how often it is asked while the actor is down or the way to it fails; it may then be
                performed more than once.

        Raises RuntimeUnavailable: there is no such actor (reason ABSENT), it was ended (ENDED) or is down,
        the call failed, or was not answered in time (TIMEOUT).
        """
        scope = asyncio.timeout(timeout_s)
        try:
            async with scope:
                return await self._asked(method, arguments, attempts)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise RuntimeUnavailable(
                f"{self.name} of {self.namespace} did not answer {method} within {timeout_s:g} s", reason=TIMEOUT
            ) from error

    async def _asked(self, method: str, arguments: tuple[object, ...], attempts: int) -> Any:
        for _ in range(attempts - 1):
            try:
                return await self._call(method, arguments)
            except RuntimeUnavailable as error:
                if error.reason:  # no waiting mends that
                    raise
            await asyncio.sleep(_AGAIN_S)
        return await self._call(method, arguments)

    async def _call(self, method: str, arguments: tuple[object, ...]) -> Any:
        from ray.exceptions import ActorDiedError, RayError

        if self._handle is None:
            self._handle = await asyncio.to_thread(self._find)
        try:
            remote = getattr(self._handle, method)
            if self._group:
                remote = remote.options(concurrency_group=self._group)
            return await _answer(remote.remote(*arguments))
        except ActorDiedError as error:
            self._handle = None
            raise self._unavailable(error, ENDED) from error
        except (RayError, AttributeError) as error:  # an actor whose class could not be loaded has no methods
            raise self._unavailable(error, "") from error

    async def end(self, *, within_s: float) -> None:
        """Kill it for good, and wait until its name is free. Nothing happens if there is none.

        Raises RuntimeUnavailable: the name is still taken after `within_s`, or Ray does not say.
        """
        try:
            async with asyncio.timeout(within_s):
                with contextlib.suppress(RuntimeUnavailable):  # whether it is gone is looked at
                    if self._handle is None:
                        self._handle = await asyncio.to_thread(self._find)
                    await asyncio.to_thread(self._kill, self._handle)
                self._handle = None
                while await self.exists():  # noqa: ASYNC110 - Ray tells nobody
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            self._handle = None
            raise RuntimeUnavailable(
                f"{self.name} of {self.namespace} was killed, and after {within_s:g} s its name is still taken",
                reason=TIMEOUT,
            ) from error

    async def exists(self) -> bool:
        """Return whether the name is taken. Raises RuntimeUnavailable if Ray does not say within 5 s."""
        try:
            async with asyncio.timeout(_FIND_S):
                await asyncio.to_thread(self._find)
        except TimeoutError as error:
            raise RuntimeUnavailable(f"Ray did not look {self.name} up within {_FIND_S:g} s", reason=TIMEOUT) from error
        except RuntimeUnavailable as error:
            if error.reason != ABSENT:
                raise
            return False
        return True

    def _kill(self, handle: Any) -> None:
        import ray

        try:
            ray.kill(handle, no_restart=True)
        except Exception as error:  # as below
            raise self._unavailable(error, "") from error

    def _find(self) -> Any:
        import ray

        try:
            return ray.get_actor(self.name, namespace=self.namespace)
        except ValueError as error:
            raise RuntimeUnavailable(
                f"there is no {self.name} in {self.namespace}: it was stopped, or was never started", reason=ABSENT
            ) from error
        except Exception as error:  # Ray tells a lost cluster in many ways
            raise self._unavailable(error, "") from error

    def _unavailable(self, error: Exception, reason: str) -> RuntimeUnavailable:
        cause = str(error).strip().partition("\n")[0][:500]
        return RuntimeUnavailable(
            f"{self.name} of {self.namespace} does not answer: {type(error).__name__}: {cause}", reason=reason
        )


async def _answer(reference: Any) -> Any:
    """Wait for a reference; being cancelled only stops the waiting."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def told(theirs: concurrent.futures.Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, answer, theirs)

    reference.future().add_done_callback(told)
    return await answer


def _settle(answer: asyncio.Future[Any], theirs: concurrent.futures.Future[Any]) -> None:
    if answer.done():
        return
    error = theirs.exception()
    if error is None:
        answer.set_result(theirs.result())
    else:
        answer.set_exception(error)
