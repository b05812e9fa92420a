"""Questions between hosts: one request, one reply, by the name of a service.

Law of this file: every question that is asked ends: with its reply, with the error that the other
side raised, with the loss of that side, or at its deadline. Every question that is taken is answered
exactly once, unless its asker is lost: then its handler is cancelled. So many may be under way for
one asker; what goes beyond is refused at once, and nothing was done.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from laneway.actors.hosts.peers import REPLY, REQUEST, Message, Peer
from laneway.routing.errors import (
    DeadlineExceeded,
    HandlerFailed,
    HostLost,
    LanewayError,
    LocalProtocolError,
    Overloaded,
    PeerProtocolError,
    RuntimeUnavailable,
)
from laneway.routing.failures import error_fields, error_of_fields

__all__ = ["Questions", "ServiceHandler"]

ServiceHandler: TypeAlias = Callable[[Peer, str, Any], Awaitable[Any]]
"""``async def handler(peer, method, arguments)``: returns plain data; what it raises is raised at the asker."""

_log: Final = logging.getLogger(__name__)
_UNDER_WAY: Final = 1_024
"""Per asker: well above what one host's handlers ask at once (a pool's concurrency is in the tens)."""
_ANSWER_S: Final = 120.0
"""No answer is of use later: as long as the longest wait for a tool call."""
_RETRY_MS: Final = 100


class _Line:
    """What is under way over one connection."""

    __slots__ = ("asked", "issued", "running")

    def __init__(self) -> None:
        self.asked: dict[int, asyncio.Future[Any]] = {}
        self.running: dict[int, asyncio.Task[None]] = {}
        self.issued = itertools.count(1)


class Questions:
    """A `switchboard.Part` for REQUEST and REPLY. Lives on one event loop.

    Args:
        max_under_way: questions of one asker at once, at least 1; both sides keep it.
        answer_s: longest time a handler gets for one question.
    """

    def __init__(self, *, max_under_way: int = _UNDER_WAY, answer_s: float = _ANSWER_S) -> None:
        self._max = max_under_way
        self._answer_s = answer_s
        self._services: dict[str, ServiceHandler] = {}
        self._lines: dict[Peer, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- asking ---------------------------------------------------------------------------------

    async def ask(self, peer: Peer, service: str, method: str, arguments: Any, timeout_s: float) -> Any:
        """Ask a host and return its answer, plain data; one round trip.

        Args:
            arguments: plain data (ints, floats, str, bytes, bool, None, lists and dicts of them).
            timeout_s: seconds; whether the question was carried out is unknown after them.

        Raises:
            RuntimeUnavailable: the host is not connected; nothing was asked.
            HostLost: it was lost before it answered; whether the question was carried out is unknown.
            DeadlineExceeded: no answer within `timeout_s`.
            Overloaded: too many questions are under way; nothing was done.
            LanewayError: what the other side raised, as the same class.
        """
        line = self._lines.get(peer)
        if line is None or not peer.alive or self._closed:
            raise RuntimeUnavailable(f"host {peer.name!r} is not connected; {service}.{method} was not asked")
        if len(line.asked) >= self._max:
            raise _too_many(len(line.asked))
        number = next(line.issued)
        answer = line.asked[number] = asyncio.get_running_loop().create_future()
        scope = asyncio.timeout(timeout_s)
        try:
            peer.send((REQUEST, number, service, method, arguments))
            async with scope:
                return await answer
        except TimeoutError:
            if not scope.expired():
                raise
            late = f"host {peer.name!r} did not answer {service}.{method} within {timeout_s:g} s"
            raise DeadlineExceeded(late) from None
        finally:
            line.asked.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # an asker that is cancelled at that moment leaves it unread

    # -- answering ------------------------------------------------------------------------------

    def serve(self, service: str, handler: ServiceHandler) -> None:
        """Answer a service's questions from now on. Raises LocalProtocolError if somebody does already."""
        if service in self._services:
            raise LocalProtocolError(f"service {service!r} is answered already; choose another name")
        self._services[service] = handler

    async def close(self) -> None:
        """Cancel what is being answered and end what is being asked; idempotent."""
        self._closed = True
        for peer in list(self._lines):
            self._drop(peer, RuntimeUnavailable, "this host is closing")
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def under_way(self) -> int:
        """Questions that are being asked and answered now."""
        return sum(len(line.asked) + len(line.running) for line in self._lines.values())

    # -- the part -------------------------------------------------------------------------------

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """The verbs of questions."""
        return {REQUEST: self._requested, REPLY: self._replied}

    def connected(self, peer: Peer) -> None:
        """From now on it may be asked, and may ask."""
        self._lines[peer] = _Line()

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """End what is asked of it, and cancel what it asked."""
        self._drop(peer, HostLost, f"host {peer.name!r} was lost before it answered: {error.message}")

    def _drop(self, peer: Peer, kind: type[LanewayError], message: str) -> None:
        line = self._lines.pop(peer, None)
        if line is None:
            return
        for answer in line.asked.values():
            if not answer.done():
                answer.set_exception(kind(message))
        for task in line.running.values():
            task.cancel()

    def _replied(self, peer: Peer, message: Message) -> None:
        """Pass an answer on; one that nobody waits for any more is dropped."""
        _, number, value, error = message
        line = self._lines.get(peer)
        answer = line.asked.get(number) if line is not None else None
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error_of_fields(error))

    def _requested(self, peer: Peer, message: Message) -> None:
        """Start to answer, or refuse."""
        _, number, service, method, arguments = message
        line = self._lines.get(peer)
        if line is None or self._closed:
            return  # its asker is told of the loss
        if number in line.running:
            raise PeerProtocolError(f"host {peer.name!r} used question number {number!r} twice")
        handler = self._services.get(service)
        if handler is None:
            unknown = PeerProtocolError(f"nobody here answers {service!r}", reason="UNKNOWN_SERVICE")
            peer.send((REPLY, number, None, error_fields(unknown)))
        elif len(line.running) >= self._max:
            peer.send((REPLY, number, None, error_fields(_too_many(len(line.running)))))
        else:
            work = self._answer(peer, number, handler, method, arguments)
            task = asyncio.get_running_loop().create_task(work, name=f"answer {service}.{method}")
            line.running[number] = task
            self._tasks.add(task)
            task.add_done_callback(partial(self._answered, line, number))

    def _answered(self, line: _Line, number: int, task: asyncio.Task[None]) -> None:
        line.running.pop(number, None)
        self._tasks.discard(task)

    async def _answer(self, peer: Peer, number: int, handler: ServiceHandler, method: str, arguments: Any) -> None:
        """Answer one question; the line holds the task, and `close` awaits it."""
        scope = asyncio.timeout(self._answer_s)
        try:
            async with scope:
                value = await handler(peer, method, arguments)
            peer.send((REPLY, number, value, None))
        except LanewayError as error:
            peer.send((REPLY, number, None, error_fields(error)))
        except Exception as error:  # also a value that no message can carry
            late = isinstance(error, TimeoutError) and scope.expired()
            peer.send((REPLY, number, None, error_fields(self._late() if late else _failed(error))))

    def _late(self) -> LanewayError:
        return DeadlineExceeded(f"the question was not answered within {self._answer_s:g} s")


def _failed(error: Exception) -> LanewayError:
    _log.error("a question of another host could not be answered", exc_info=error)
    return HandlerFailed(f"answering raised {type(error).__name__}: {str(error)[:1000]}")


def _too_many(count: int) -> Overloaded:
    return Overloaded(
        f"{count} questions are under way already; ask again when one is answered", retry_after_ms=_RETRY_MS
    )
