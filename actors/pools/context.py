"""What a handler is given beside its event: who asks, how to answer the session, how to call a tool.

Law of this file: a context speaks for one event and only while that event is open. Once the event is
answered, whatever a handler still emits is discarded and counted, and no tool is started.

A tool call (`tools/calling.py`) may last as long as the caller's deadline allows, and never starts
without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from laneway.actors.endings import cancelled
from laneway.actors.ports import (
    Clock,
    Out,
    Outcome,
    Outlet,
    Principal,
    Probe,
    ToolResult,
    ToolSpec,
)
from laneway.actors.spans import SILENT, Span, SpanValue, Tracer, ended
from laneway.routing.classify import KindTable
from laneway.routing.envelope import DEADLINE, LANE, NO_DEADLINE, RUN, SESSION, TENANT, Envelope
from laneway.routing.errors import LocalProtocolError
from laneway.routing.unread import Unread

if TYPE_CHECKING:
    from laneway.actors.outlets import Add
    from laneway.actors.pools.replies import Replies

__all__ = ["Ask", "ContextMaker", "LateEmits", "RunContext", "Surroundings"]

_TOOL_TIMEOUT_S: Final = 120.0
"""For a call of an event without a nearer deadline: above any sensible tool timeout with its retries."""

Ask = Callable[[Envelope, float], Awaitable[Outcome]]
"""Dispatch an event and wait for its outcome at most so many seconds; never raises for a failure."""


Gathering: TypeAlias = "Callable[[str, str, str, str, str], Add | None]"
"""See `outlets.Gathers.gathering`."""


EmitNow = Callable[[Envelope], bool]
"""See `outlets.EmitsNow.emit_now`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the contexts of one engine share.

    Attributes:
        outlet: takes emitted events to their session.
        ids: fresh ids for tool calls, unguessable and unique.
        principal: whose event it is; without it the subject is empty.
        tools: the catalogue rows a principal may call.
        tool_timeout_s: longest wait for a tool call whose event has no nearer deadline.
        tracer: spans of sampled events, or None.
    """

    outlet: Outlet
    clock: Clock
    kinds: KindTable
    ids: Callable[[], str]
    principal: Callable[[Envelope], Principal] | None = None
    tools: Callable[[Principal], Sequence[ToolSpec]] | None = None
    tool_timeout_s: float = _TOOL_TIMEOUT_S
    tracer: Tracer | None = None


class LateEmits:
    """Counts what handlers of one pool emitted after the answer.

    Args:
        probe: counter `context.late_emits`.
    """

    __slots__ = ("_pool", "_probe", "count")

    def __init__(self, pool: str, probe: Probe | None = None) -> None:
        self.count = 0
        self._pool = pool
        self._probe = probe

    def add(self) -> None:
        """Count one."""
        self.count += 1
        if self._probe is not None:
            self._probe.count("context.late_emits", pool=self._pool)


class ContextMaker:
    """Makes the contexts of one pool, or of one event of another host.

    Args:
        pool: names the producer of what is emitted outside a run.
        ask: dispatches tool calls.
        number: next number of this process's own events; shared by all pools, so that ids are unique.
        late: counts what is emitted after the answer.
        outlet, principal: of the one event that it is for, instead of those of the surroundings.
    """

    __slots__ = (
        "_now",
        "_number",
        "_pool",
        "_principal",
        "_producer",
        "_replies",
        "ask",
        "emit_now",
        "gathering",
        "kind",
        "late",
        "outlet",
        "surroundings",
    )

    def __init__(
        self,
        pool: str,
        surroundings: Surroundings,
        ask: Ask,
        number: Callable[[], int],
        late: LateEmits,
        *,
        outlet: Outlet | None = None,
        principal: Principal | None = None,
    ) -> None:
        self.surroundings = surroundings
        self.kind = surroundings.kinds.get
        self.outlet = outlet or surroundings.outlet
        self.ask = ask
        self.late = late
        # not isinstance(..., Gathers): that takes 5 us, and another host's event has a maker of its own
        self.gathering: Gathering = getattr(self.outlet, "gathering", _never_gathers)
        self.emit_now: EmitNow = getattr(self.outlet, "emit_now", _never_now)
        self._pool = pool
        self._producer = f"engine/{pool}"
        self._now = surroundings.clock.now
        self._number = number
        self._principal = principal
        self._replies: Replies | None = None

    def __call__(self, env: Envelope, trace: str) -> RunContext:
        """Return the context of one event, whose steps belong to the span `trace` (or none)."""
        return RunContext(self, env, trace)

    @property
    def direct(self) -> Callable[[Envelope, str], RunContext]:
        """As calling this, for less: for who makes one for every event."""
        return partial(RunContext, self)

    def emit_each(
        self, causes: Sequence[Envelope], outs: Sequence[Out], traces: Sequence[str] | None = None
    ) -> list[int]:
        """Send an out for each of these events, as far as that need not wait; see `Replies.emit`."""
        if self._replies is None:
            from laneway.actors.pools.replies import Replies  # not for a first event, whose handler takes no lists

            ready = getattr(self.outlet, "emit_ready", _none_ready)
            around = self.surroundings
            self._replies = Replies(self._pool, around.kinds, around.clock, self._number, ready)
        return self._replies.emit(causes, outs, traces)

    def principal(self, env: Envelope) -> Principal:
        """Return whose event it is."""
        if self._principal is not None:
            return self._principal
        known = self.surroundings.principal
        return known(env) if known is not None else Principal("", env[TENANT])

    def tools(self, principal: Principal) -> Sequence[ToolSpec]:
        """Return the rows this principal may call."""
        catalogue = self.surroundings.tools
        return catalogue(principal) if catalogue is not None else ()

    def outbound(self, cause: Envelope, out: Out, lane: int, deadline: float, trace: str) -> Envelope:
        """Return `out` as an event of the run, session and tenant of its cause."""
        run, number, now = cause[5], self._number(), self._now()
        producer = f"engine/{run}" if run else self._producer
        # +lane: a plain number, or the garbage collector would look at the event for as long as it is kept
        return (producer, number, out[0], cause[3], cause[4], run, out[2], +lane, deadline, trace, "", out[1], now)

    def outbound_all(self, cause: Envelope, outs: Sequence[Out], trace: str) -> list[Envelope]:
        """As `outbound` of each, in its kind's lane and without a deadline: what is the same is found once.

        Raises LocalProtocolError for a kind that was never declared.
        """
        tenant, session, run, now = cause[3], cause[4], cause[5], self._now()
        producer, number = f"engine/{run}" if run else self._producer, self._number
        envs: list[Envelope] = []
        for out in outs:
            kind = self.kind(out[0])
            if kind is None:
                raise _undeclared(out)
            lane = +kind.lane
            row = (producer, number(), out[0], tenant, session, run, out[2], lane, NO_DEADLINE, trace, "", out[1], now)
            envs.append(row)
        return envs


class RunContext:
    """`ports.Context` of one event; its cell holds the other end (`cancel`, `end`)."""

    __slots__ = ("_cancelled", "_env", "_maker", "_over", "_principal", "_steered", "_trace")

    def __init__(self, maker: ContextMaker, env: Envelope, trace: str) -> None:
        self._env = env
        self._maker = maker
        self._principal: Principal | None = None
        self._cancelled = False
        self._over = False
        self._steered = False
        self._trace = trace

    @property
    def principal(self) -> Principal:
        """Whose event this is."""
        if self._principal is None:
            self._principal = self._maker.principal(self._env)
        return self._principal

    @property
    def tenant(self) -> str:
        """The event's tenant."""
        return self._env[TENANT]

    @property
    def session(self) -> str:
        """The event's session."""
        return self._env[SESSION]

    @property
    def run(self) -> str:
        """The event's run, or empty."""
        return self._env[RUN]

    @property
    def deadline(self) -> float:
        """Absolute monotonic seconds, or infinity."""
        return self._env[DEADLINE]

    @property
    def cancelled(self) -> bool:
        """True once somebody asked for the end of this event."""
        return self._cancelled

    @property
    def trace(self) -> str:
        """W3C traceparent of the innermost span, or empty."""
        return self._trace

    @contextmanager
    def span(self, name: str, kind: str = "internal", **attributes: SpanValue) -> Iterator[Span]:
        """Time a step; inside the block `trace` is the span's."""
        tracer, outer = self._maker.surroundings.tracer, self._trace
        if tracer is None or not outer:
            yield SILENT
            return
        span = tracer.begin(name, outer, kind=kind, attributes=attributes)
        self._trace = span.traceparent
        try:
            with ended(span):
                yield span
        finally:
            self._trace = outer

    def record(self, name: str, start: float, end: float, **attributes: SpanValue) -> None:
        """Tell of a step that was timed elsewhere."""
        tracer = self._maker.surroundings.tracer
        if tracer is not None and self._trace:
            tracer.record(name, self._trace, start, end, attributes=attributes)

    def tools(self) -> Sequence[ToolSpec]:
        """The catalogue rows this principal may call."""
        return self._maker.tools(self.principal)

    def cancel(self) -> None:
        """For the cell: somebody asked for the end of this event."""
        self._cancelled = True

    def end(self) -> None:
        """For the cell: the event is answered; discard what is still emitted."""
        if self._steered:
            self.when_unread("pause")
        self._over = True

    def when_unread(self, policy: Unread) -> None:
        """Say what becomes of this event's run where nobody reads it; ends with the event. Without a run it pauses."""
        steer = getattr(self._maker.outlet, "when_unread", None)  # see `ContextMaker.gathering`
        if steer is None or self._over or not self._env[RUN] or (policy == "pause" and not self._steered):
            return
        steer(self._env[TENANT], self._env[SESSION], self._env[RUN], policy)
        self._steered = policy != "pause"

    async def emit(self, out: Out) -> None:
        """Send one event to the session, waiting for credit.

        Raises LocalProtocolError for a kind that was never declared, and what the session's home raises.
        """
        waits = self._say(out)
        if waits is not None:
            await self._maker.outlet.emit(waits)

    def emit_now(self, out: Out) -> bool:
        """As `emit`, if it need not wait; else False, and nothing is done: then `emit` it. About 1 us."""
        return self._say(out) is None

    def _say(self, out: Out) -> Envelope | None:
        """Send what needs no waiting; return what does."""
        maker, env = self._maker, self._env
        if self._over:
            maker.late.add()
            return None
        kind = maker.kind(out[0])
        if kind is None:
            raise _undeclared(out)
        if kind.text:
            add = maker.gathering(env[3], env[4], env[5], out[0], out[2])
            if add is not None and add(out[1]):
                return None
        told = maker.outbound(env, out, kind.lane, NO_DEADLINE, self._trace)
        return None if maker.emit_now(told) else told

    def gathering(self, kind: str, entity: str) -> Add | None:
        """Return what adds deltas of this kind and entity to those that wait for company anyway; see `outlets.Gathers`.

        None if they must be emitted. For who says much, right after it emitted one: 0.2 us a delta.
        """
        env = self._env
        return None if self._over else self._maker.gathering(env[3], env[4], env[5], kind, entity)

    async def emit_all(self, outs: Sequence[Out]) -> None:
        """Send events to the session, in order; none if one of them is of a kind that was never declared."""
        if self._over:
            for _ in outs:
                self._maker.late.add()
        elif outs:
            await self._maker.outlet.emit_all(self._maker.outbound_all(self._env, outs, self._trace))

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any], call_id: str = "", parent_message_id: str = ""
    ) -> ToolResult:
        """Run a tool and return its result, also if it failed; O(1) + the tool.

        Args:
            arguments: JSON values; anything else is answered INVALID_ARGUMENT.
            call_id: the model's id of the call, or empty for a fresh one. The same id again in this
                run is the same call: it is not run twice.
            parent_message_id: the message that asked for the call, for clients that show it there.
        """
        from laneway.actors.tools.calling import call, unstarted  # with the first call: many engines have no tools

        call_id = call_id or self._maker.surroundings.ids()
        if self._cancelled or self._over:
            return unstarted(call_id, cancelled("the run was cancelled before the tool was called"))
        return await call(self, self._dispatch, name, arguments, call_id, parent_message_id)

    async def _dispatch(self, call: Out) -> Outcome:
        """Ask the dispatcher; the call is never more urgent than its cause and never outlives it."""
        around = self._maker.surroundings
        now = around.clock.now()
        deadline = min(self._env[DEADLINE], now + around.tool_timeout_s)
        lane = around.kinds.lane(call.kind, self._env[LANE])
        return await self._maker.ask(
            self._maker.outbound(self._env, call, lane, deadline, self._trace), max(0.0, deadline - now)
        )


def _undeclared(out: Out) -> LocalProtocolError:
    return LocalProtocolError(f"kind {out.kind!r} was emitted but never declared; add it to the kind table")


def _never_now(env: Envelope) -> bool:
    return False


def _never_gathers(tenant: str, session: str, run: str, kind: str, entity: str) -> None:
    return None


def _none_ready(envs: Sequence[Envelope]) -> int:
    return 0
