"""One event on another host, from its delivery to its answer.

Law of this file: it is answered exactly once: with what the host says came of it, once the session has
taken all that was said before; or without the host, when that does not answer in time or is lost. What
comes later for it is ignored. A run is never answered as handled if the session did not take its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from laneway.actors.endings import cancelled, expired, failed
from laneway.actors.hosts.peers import ANSWER, CANCEL, EMITTED, Message, Peer
from laneway.actors.hosts.sayings import Ready, Sayings, Tellings
from laneway.actors.packer import Packer
from laneway.actors.pools.context import Ask
from laneway.actors.ports import Clock, Outcome, Outlet, Principal
from laneway.routing.envelope import DEADLINE, LANE, NO_DEADLINE, RUN, SESSION, TENANT, Envelope, envelope_id
from laneway.routing.errors import LanewayError, LocalProtocolError, Overloaded, PeerProtocolError
from laneway.routing.lanes import Lane
from laneway.routing.unread import POLICIES

__all__ = ["MARGIN_S", "Carriage", "Desk", "answer_of"]

MARGIN_S: Final = 1.0
"""A host answers by itself for a handler that ignores its end; this is for that answer's way here."""
_SLACK_S: Final = 0.05
"""A host stops a handler so long after its deadline; see `Cell`."""
_LAST_WORDS_S: Final = 2.0
"""What a cancelled handler said last may wait so long for a client without credit, as on one host."""
_MAX_ASKS: Final = 64
"""Of one delivery at once: more tool calls than any model makes in one turn."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the carriages of one front share.

    Attributes:
        outlet: takes emitted events to their session.
        packer: envelope <-> bytes between hosts.
        principal: whose event it is.
        history: (tenant, session) -> its AG-UI messages, for pools that start runs.
        ask: dispatches an event for a handler and waits for its outcome.
        number: next number of this front's own events; a host's numbers are its own.
        spawn: runs a coroutine as a task of this name that is awaited when the front closes.
        tellings: acknowledgements that may wait a little. ready: of the outlet, if it has one.
    """

    outlet: Outlet
    clock: Clock
    packer: Packer
    principal: Callable[[Envelope], Principal]
    history: Callable[[str, str], Sequence[Mapping[str, Any]]]
    ask: Ask
    number: Callable[[], int]
    spawn: Callable[..., asyncio.Task[None]]
    tellings: Tellings = field(default_factory=Tellings)
    ready: Ready | None = None


class Carriage:
    """One delivery; its cell holds the other end.

    Args:
        number: the delivery's on this connection.
        grace_s: seconds between a cancel and giving up on a handler that ignores it.
        over: called once with the answer.
        watch: called with a time (on the clock) at which `give_up_at` must be looked at.

    Attributes:
        answered: `over` was called. gone: the host has nothing of it any more.
        give_up_at: when to answer without the host, on the clock; infinity: never.
    """

    __slots__ = (
        "_asks",
        "_desk",
        "_done",
        "_grace_s",
        "_over",
        "_peer",
        "_sayings",
        "_steered",
        "_stop",
        "_watch",
        "answered",
        "env",
        "give_up_at",
        "gone",
        "number",
        "urgent",
    )

    def __init__(
        self,
        number: int,
        env: Envelope,
        peer: Peer,
        desk: Desk,
        *,
        grace_s: float,
        over: Callable[[Carriage, Outcome], None],
        watch: Callable[[float], None],
    ) -> None:
        self.number = number
        self.env = env
        self.urgent = env[LANE] == Lane.CRITICAL
        self.answered = self.gone = False
        deadline = env[DEADLINE]
        self.give_up_at = NO_DEADLINE if deadline == NO_DEADLINE else deadline + _SLACK_S + grace_s + MARGIN_S
        self._peer = peer
        self._desk = desk
        self._grace_s = grace_s
        self._over = over
        self._watch = watch
        self._sayings: Sayings | None = None
        self._steered = False
        self._asks: dict[int, asyncio.Task[None]] = {}
        self._stop: Outcome | None = None
        self._done: Outcome | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{envelope_id(self.env)} on {self._peer.name}"

    def send(self, message: Message) -> None:
        """Put a message on this delivery's stream."""
        self._peer.send(message, urgent=self.urgent)

    # -- what the host says -----------------------------------------------------------------------

    def emit(self, packed: Sequence[bytes]) -> None:
        """The handler has said something. Raises PeerProtocolError for what it may not say."""
        if self.answered:
            return
        if self.finished:
            raise PeerProtocolError(f"delivery {self.number} spoke after its end")
        if self._sayings is None:
            desk = self._desk
            self._sayings = Sayings(self, desk.outlet, desk.ready, desk.tellings, desk.spawn)
        self._sayings.add([self._own(data) for data in packed], sum(map(len, packed)))

    def when_unread(self, policy: object) -> None:
        """The handler has said what becomes of its run where nobody reads it. Raises PeerProtocolError."""
        if policy not in POLICIES:
            raise PeerProtocolError(f"delivery {self.number} wants {str(policy)[:40]!r} where nobody reads it")
        if not self.answered:
            self._steer(policy)

    def _steer(self, policy: object) -> None:
        steer = getattr(self._desk.outlet, "when_unread", None)  # as `ContextMaker.gathering`
        if steer is not None:
            steer(self.env[TENANT], self.env[SESSION], self.env[RUN], policy)
            self._steered = policy != "pause"

    def _own(self, data: bytes) -> Envelope:
        """Unpack what was made for this delivery, under a number of this front's own."""
        desk, env = self._desk, self.env
        made = desk.packer.unpack(data, desk.clock.now())
        if made[TENANT] != env[TENANT] or made[SESSION] != env[SESSION]:
            raise PeerProtocolError(f"delivery {self.number} spoke for another session")
        return (made[0], desk.number(), *made[2:])

    def tell_taken(self, taken_bytes: int, error: LanewayError | None) -> None:
        """Tell the host how much of it the session has taken, and why no more will be (or None)."""
        if self.gone:
            return  # nobody waits for it
        if error is None:
            self.send((EMITTED, self.number, taken_bytes, "", "", False))
        else:
            self._hurry(self._grace_s + MARGIN_S)
            self.send((EMITTED, self.number, taken_bytes, error.code, error.message, error.retryable))

    def finish(self, outcome: Outcome) -> None:
        """The host is done with it. Raises PeerProtocolError if it was before."""
        if self.gone:
            raise PeerProtocolError(f"delivery {self.number} ended twice")
        self.gone = True
        if self.answered:
            return
        self._done = self._stop if self._stop is not None and outcome.status == "cancelled" else outcome
        self._end_asks()
        if self._sayings is None or not self._sayings.busy:
            self.quiet()
        elif self._stop is not None:
            self._hurry(_LAST_WORDS_S)

    def quiet(self) -> None:
        """Nothing of what was said waits any more."""
        if self._done is None or self.answered:
            return
        error = None if self._sayings is None else self._sayings.error
        self._answer(self._done if error is None or self._done.status != "handled" else failed(error))

    def ask(self, question: int, data: bytes | None, timeout_s: float) -> None:
        """The handler asks for an event of its own to be dispatched, or (None) waits for it no longer.

        Raises PeerProtocolError for a wrong one.
        """
        if data is None:
            if (task := self._asks.get(question)) is not None:
                task.cancel()
        elif self.answered or self.gone:
            self.send(answer_of(question, cancelled("whoever asked is over")))
        elif question in self._asks:
            raise PeerProtocolError(f"question {question} was asked twice")
        elif len(self._asks) >= _MAX_ASKS:
            self.send(answer_of(question, failed(Overloaded(f"one event asks {_MAX_ASKS} questions at once at most"))))
        else:
            ask = self._ask(question, self._own(data), timeout_s)
            self._asks[question] = self._desk.spawn(ask, f"question of {envelope_id(self.env)}")

    async def _ask(self, question: int, env: Envelope, timeout_s: float) -> None:
        try:
            outcome = await self._dispatch(env, timeout_s)
        finally:
            self._asks.pop(question, None)
        try:
            self.send(answer_of(question, outcome))
        except LocalProtocolError as error:  # larger than a message may be
            self.send(answer_of(question, failed(error)))

    async def _dispatch(self, env: Envelope, timeout_s: float) -> Outcome:
        """Ask once the session has taken what was said before, as on one host: a call follows its announcement."""
        if self._sayings is not None:
            if self._sayings.busy:
                since = self._desk.clock.now()
                try:
                    async with asyncio.timeout(timeout_s):
                        await self._sayings.caught_up()
                except TimeoutError:
                    return expired()
                timeout_s -= self._desk.clock.now() - since
            if self._sayings.error is not None:
                return failed(self._sayings.error)
        return await self._desk.ask(env, max(0.0, timeout_s))

    def _end_asks(self) -> None:
        if self._asks:
            for task in list(self._asks.values()):
                task.cancel()

    # -- what this front decides --------------------------------------------------------------------

    def cancel(self, reason: str) -> None:
        """Somebody asked for its end: the host is told, and is waited for so long as its grace."""
        if self.answered or self._stop is not None:
            return
        self._stop = cancelled(reason)
        if not self.finished:
            self._peer.send((CANCEL, self.number, reason), urgent=True)
            self._hurry(self._grace_s + MARGIN_S)
        else:
            self._answer(self._stop)  # it is over there, and only waits for somebody to read

    def give_up(self, outcome: Outcome) -> None:
        """Answer without the host: with why it was to end, or why it could not go on, or else with `outcome`."""
        if self.answered:
            return
        if not self.finished:
            self._peer.send((CANCEL, self.number, outcome.message), urgent=True)
        error = None if self._sayings is None else self._sayings.error
        self._answer(self._stop or (outcome if error is None else failed(error)))

    def lose(self) -> bool:
        """The host is lost; returns whether the event is without an answer and may have another host.

        If that is not so, `give_up` it, unless the host had `finished`: then it is answered when the
        session has taken what was said.
        """
        self.gone = True
        error = None if self._sayings is None else self._sayings.error
        if self.answered or self.finished or self._stop is not None or error is not None:
            return False
        self.answered = True
        self._silence()
        return True

    @property
    def finished(self) -> bool:
        """True if the host has said how it ended."""
        return self._done is not None

    def _hurry(self, within_s: float) -> None:
        self.give_up_at = min(self.give_up_at, self._desk.clock.now() + within_s)
        self._watch(self.give_up_at)

    def _answer(self, outcome: Outcome) -> None:
        self.answered = True
        self._silence()
        self._over(self, outcome)

    def _silence(self) -> None:
        if self._steered:
            self._steer("pause")
        if self._sayings is not None:
            self._sayings.stop()
        self._end_asks()


def answer_of(question: int, outcome: Outcome) -> Message:
    """Return the ANSWER of a question."""
    return (ANSWER, question, outcome.status, outcome.value, outcome.code, outcome.message, outcome.retryable)
