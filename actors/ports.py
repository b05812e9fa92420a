"""What actors need from the outside, as Protocols owned here and implemented by the engine.

Law of this file: an actor is constructible with nothing but these; no runtime, no wire, no SDK.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from laneway.actors.spans import Span, SpanValue
from laneway.routing.envelope import Envelope
from laneway.routing.unread import Unread

__all__ = [
    "Claim",
    "Clock",
    "Context",
    "DeadLetter",
    "Entry",
    "Handler",
    "Journal",
    "Model",
    "Observe",
    "Out",
    "Outcome",
    "Outlet",
    "Principal",
    "Probe",
    "Record",
    "Store",
    "ToolInvoker",
    "ToolResult",
    "ToolSpec",
]


class Clock(Protocol):
    """Monotonic time of this process; virtual in simulations."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is speaking, as established once by the edge.

    Attributes:
        subject: stable id of the person or service.
        tenant: whose data it may touch; stamped on every envelope.
        scopes: what it may do ("admin", "tool:NAME", "tool:*").
        expires_at: UNIX seconds at which the credentials end, or None.
    """

    subject: str
    tenant: str = "default"
    scopes: frozenset[str] = frozenset()
    expires_at: float | None = None


class Out(NamedTuple):
    """One outbound event as a handler emits it, before it becomes an envelope."""

    kind: str
    body: bytes = b""
    entity: str = ""


class Outcome(NamedTuple):
    """How the handling of one event ended.

    Attributes:
        status: "handled", "expired", "dropped", "cancelled", "failed" or "dead" (dead-lettered).
        value: bytes the handler returned to an asker, or empty.
        code: error code when not handled; message: its sentence.
        retry_after_ms: when to send it again at the earliest, or None if unknown.
    """

    status: str
    value: bytes = b""
    code: str = ""
    message: str = ""
    retryable: bool = False
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One catalogue row, as models and clients see it."""

    name: str
    description: str
    schema: Mapping[str, Any]
    timeout_s: float = 30.0
    idempotent: bool = False
    effects: bool = True
    scopes: frozenset[str] = frozenset()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call gave: JSON text for the model, or a typed error."""

    call_id: str
    content: str
    code: str = ""
    retryable: bool = False

    @property
    def ok(self) -> bool:
        """True if the tool returned a value."""
        return not self.code


class ToolInvoker(Protocol):
    """One callable tool, wherever it runs (callable, worker process, MCP server)."""

    @property
    def spec(self) -> ToolSpec:
        """Its catalogue row."""
        ...

    async def invoke(self, arguments: Mapping[str, Any], context: Context) -> str:
        """Run once and return JSON text. Raises a ToolError subclass."""
        ...


class Context(Protocol):
    """What a handler is given beside the event."""

    @property
    def principal(self) -> Principal:
        """Whose event this is."""
        ...

    @property
    def tenant(self) -> str:
        """Whose data it may touch."""
        ...

    @property
    def session(self) -> str:
        """Session (AG-UI threadId)."""
        ...

    @property
    def run(self) -> str:
        """Run (AG-UI runId), or empty."""
        ...

    @property
    def deadline(self) -> float:
        """Absolute monotonic seconds, or infinity."""
        ...

    @property
    def cancelled(self) -> bool:
        """True once the run was cancelled; the handler's task is cancelled too."""
        ...

    @property
    def trace(self) -> str:
        """W3C traceparent, or empty."""
        ...

    async def emit(self, out: Out) -> None:
        """Send one event to the session; waits for credit."""
        ...

    async def emit_all(self, outs: Sequence[Out]) -> None:
        """Send events to the session, in order, for less than one by one; waits for credit before each."""
        ...

    def when_unread(self, policy: Unread) -> None:
        """Say what becomes of this event's run, from now on, where nobody reads it; see `routing.unread`."""
        ...

    async def call_tool(self, name: str, arguments: Mapping[str, Any], call_id: str = "") -> ToolResult:
        """Run a tool through the dispatcher and return its result; never raises for a failed tool."""
        ...

    def tools(self) -> Sequence[ToolSpec]:
        """The catalogue rows this principal may call."""
        ...

    def span(self, name: str, kind: str = "internal", **attributes: SpanValue) -> AbstractContextManager[Span]:
        """Time a step of the handler as a span of this event's trace; free when the event is not sampled.

        Inside the block `trace`, emitted events and tool calls belong to that span. Blocks nest; they
        are not for branches that run at the same time. An exception that leaves the block marks the span.
        """
        ...

    def record(self, name: str, start: float, end: float, **attributes: SpanValue) -> None:
        """Tell of a step that was timed elsewhere, in clock seconds, as a span below `trace`; else like `span`."""
        ...


Handler: TypeAlias = Callable[[Envelope, Context], Awaitable[object] | AsyncIterator[Out]]
"""A pool's handler: a coroutine function returning None, bytes (the asker's value), an Out or a list
of Out; or an async generator function yielding Out."""


class Model(Protocol):
    """A language model: one run in, AG-UI events out.

    It may also have `provider` and `name` (str), by which spans call it, and `pushes` (bool): true if
    what it stands for generates whether it is read or not, as a server behind HTTP does. One that stands
    for several has `choose`, asked at the beginning of each run; see `nlp.chosen`.
    """

    def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Yield events of one run given an AG-UI RunAgentInput as a dict (camelCase).

        Yields message, reasoning, tool, state and step events; RUN_STARTED, RUN_FINISHED and
        RUN_ERROR are the pool's. Closing the iterator must stop the upstream generation.
        """
        ...


class Outlet(Protocol):
    """Where handlers' events go: the session's home."""

    async def emit(self, env: Envelope) -> None:
        """Number, log and fan out one event of env's session; waits for credit. O(1) + waiting."""
        ...

    async def emit_all(self, envs: Sequence[Envelope]) -> None:
        """As `emit` for each, in order; at least one, and all of one session."""
        ...


class Journal(Protocol):
    """Told before durable events are given to a handler, so that a crash in it is counted."""

    async def starting(self, envs: Sequence[Envelope]) -> None:
        """Return once the deliveries are recorded as durably as the store can."""
        ...


class Observe(Protocol):
    """Takes measurements of one histogram."""

    def __call__(self, value: float, times: int = 1, /) -> None:
        """Record a value (seconds, bytes), which was measured so many times, at least once."""
        ...


class Probe(Protocol):
    """Metrics port. Names have dots; a label's values must be few and never come from a client."""

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        """Add to a counter."""
        ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Record one measurement (seconds, bytes)."""
        ...

    def histogram(self, name: str, **labels: str) -> Observe:
        """Return `observe` bound to one name and its labels, for hot paths (0.1 us a call)."""
        ...


# ---- store ----------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One record of a log: stream number, seq within it, byte position after it, opaque bytes."""

    stream: int
    seq: int
    position: int
    blob: bytes


class Claim(NamedTuple):
    """The right to write one log, until somebody claims it with a higher generation.

    Attributes:
        key: log key, ``tenant/kind/name``.
        generation: fencing number, from 1, higher at each claim.
        epoch: name of this uninterrupted numbering; a new one if completeness cannot be proved.
        heads: stream -> (last seq, position after it); absent streams are empty.
        floors: stream -> first seq still readable.
    """

    key: str
    generation: int
    epoch: str
    heads: Mapping[int, tuple[int, int]]
    floors: Mapping[int, int]


class Record(NamedTuple):
    """A versioned value; version 0 = absent."""

    version: int
    value: bytes


class DeadLetter(NamedTuple):
    """An event that was given up."""

    id: int
    tenant: str
    session: str
    code: str
    message: str
    attempts: int
    packed: bytes
    at_unix_s: float


class Store(Protocol):
    """Fenced append-only logs, versioned values and dead letters.

    Every method raises StoreError if the medium fails, and Fenced if the claim is outdated.
    `append` and `put` return only when the data is as durable as `durable` promises.
    """

    @property
    def durable(self) -> bool:
        """True if what was acknowledged survives kill -9."""
        ...

    @property
    def shared(self) -> bool:
        """True if several hosts can use it at once: each sees and fences what the others write."""
        ...

    async def open(self) -> None:
        """Make ready; raises StoreError naming the path or address that failed."""
        ...

    async def close(self) -> None:
        """Flush and release; idempotent."""
        ...

    async def claim(self, key: str) -> Claim:
        """Take the log over (creating it): raises its generation and fences older claims."""
        ...

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """Append all or nothing; seqs must follow each stream's head without a hole."""
        ...

    async def read(self, key: str, stream: int, first: int, max_bytes: int = 262_144) -> list[Entry]:
        """Entries from `first` on, in order, at least one if it exists, about max_bytes at most."""
        ...

    async def trim(self, claim: Claim, stream: int, below: int) -> None:
        """Forget entries with seq < below."""
        ...

    async def keys(self, prefix: str) -> list[str]:
        """Keys of all logs that begin with prefix, sorted."""
        ...

    async def get(self, key: str) -> Record:
        """Read a value; Record(0, b"") if absent or past its ttl."""
        ...

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        """Write and return the new version; with `version`, only if it is still current (0 = absent).

        Returns 0 if the compare failed.
        """
        ...

    async def delete(self, key: str) -> None:
        """Forget a value; absent is fine."""
        ...

    async def bury(self, letter: DeadLetter) -> int:
        """Keep a dead letter (its id is assigned); oldest go first beyond the store's bound."""
        ...

    async def dead(self, tenant: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Newest first."""
        ...

    async def exhume(self, ids: Sequence[int]) -> list[DeadLetter]:
        """Remove and return dead letters (to drop or redrive them)."""
        ...
