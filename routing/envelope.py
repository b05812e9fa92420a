"""The envelope: what moves inside. Routing reads the address and never opens the letter.

Law of this file: an envelope is a plain tuple in the order of the index constants below. A plain
tuple is built in 0.06 us, a slotted class in 0.22, a frozen dataclass in 1.07 (measured, CPython
3.11), and every event pays that several times. Users see `EnvelopeView`, made only when asked for.

Text deltas (`Kind.text`) carry plain UTF-8 as body, so that they can be merged and split without
decoding. A delta that carries more than its text is *sealed*: its body starts with byte 0xFF,
which never occurs in UTF-8, followed by a msgpack map; it is neither merged nor split.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from laneway.routing.lanes import Lane

__all__ = [
    "ACCEPTED",
    "AFTER",
    "BODY",
    "COUNTER",
    "DEADLINE",
    "ENTITY",
    "KIND",
    "LANE",
    "NO_DEADLINE",
    "PRODUCER",
    "RUN",
    "SEAL",
    "SESSION",
    "TENANT",
    "TRACE",
    "Envelope",
    "EnvelopeView",
    "Key",
    "cost_bytes",
    "envelope",
    "envelope_id",
    "key_of",
    "with_body",
    "with_trace",
]

Envelope: TypeAlias = tuple[str, int, str, str, str, str, str, int, float, str, str, bytes, float]
Key: TypeAlias = tuple[str, str, str, int]
"""Tenant, session, producer and counter: which event of this process it is."""

PRODUCER: Final = 0
"""Who made it: a client id, or the engine part that emitted it. With COUNTER it is the event's id."""
COUNTER: Final = 1
"""Position in the producer's own numbering, from 1."""
KIND: Final = 2
"""Name in the kind table (`TEXT_MESSAGE_CONTENT`, or a user's own)."""
TENANT: Final = 3
SESSION: Final = 4
RUN: Final = 5
"""Run id, or empty."""
ENTITY: Final = 6
"""Message, tool call or document it belongs to: the unit of order and of coalescing; or empty."""
LANE: Final = 7
DEADLINE: Final = 8
"""Absolute monotonic seconds in this process; on a wire it is remaining milliseconds."""
TRACE: Final = 9
"""W3C traceparent (55 characters), or empty when unsampled."""
AFTER: Final = 10
"""Id of an event of the same session that must be handled first, or empty."""
BODY: Final = 11
ACCEPTED: Final = 12
"""Monotonic seconds at which this process took it in; never on a wire."""

NO_DEADLINE: Final = float("inf")
SEAL: Final = 0xFF
"""First byte of a sealed delta's body."""

_OVERHEAD_BYTES: Final = 200
"""What an event weighs beside its body in fair queueing and in every byte cap (header, tuple,
queue slot); close to the measured 190-230 bytes of a resident envelope."""


def envelope(
    kind: str,
    *,
    producer: str,
    counter: int,
    tenant: str,
    session: str,
    lane: int,
    run: str = "",
    entity: str = "",
    deadline: float = NO_DEADLINE,
    trace: str = "",
    after: str = "",
    body: bytes = b"",
    accepted: float = 0.0,
) -> Envelope:
    """Build an envelope by name; hot paths write the tuple out instead."""
    return (producer, counter, kind, tenant, session, run, entity, lane, deadline, trace, after, body, accepted)


def envelope_id(env: Envelope) -> str:
    """Return the id that `after` and cancels refer to: ``producer:counter``."""
    return f"{env[0]}:{env[1]}"


def key_of(env: Envelope) -> Key:
    """Return what identifies an event in this process: tenant, session, producer, counter."""
    return (env[TENANT], env[SESSION], env[PRODUCER], env[COUNTER])


def cost_bytes(env: Envelope) -> int:
    """Return what this event weighs in queues and quotas: body plus 200 bytes."""
    return _OVERHEAD_BYTES + len(env[11])


def with_body(env: Envelope, body: bytes) -> Envelope:
    """Return the same envelope around another body (merging, splitting)."""
    return (*env[:11], body, env[12])


def with_trace(env: Envelope, trace: str) -> Envelope:
    """Return the same envelope with another traceparent."""
    return (*env[:9], trace, *env[10:])


class EnvelopeView:
    """Read-only attribute access to one envelope, for people; made lazily, never stored."""

    __slots__ = ("_env",)

    def __init__(self, env: Envelope) -> None:
        self._env = env

    @property
    def id(self) -> str:
        """``producer:counter``."""
        return envelope_id(self._env)

    @property
    def kind(self) -> str:
        """Name in the kind table."""
        return self._env[KIND]

    @property
    def tenant(self) -> str:
        """Tenant stamped by the edge from the principal, never by the client."""
        return self._env[TENANT]

    @property
    def session(self) -> str:
        """Session (AG-UI threadId)."""
        return self._env[SESSION]

    @property
    def run(self) -> str:
        """Run (AG-UI runId), or empty."""
        return self._env[RUN]

    @property
    def entity(self) -> str:
        """Message, tool call or document id, or empty."""
        return self._env[ENTITY]

    @property
    def lane(self) -> Lane:
        """Urgency class."""
        return Lane(self._env[LANE])

    @property
    def deadline(self) -> float:
        """Absolute monotonic seconds, or infinity."""
        return self._env[DEADLINE]

    @property
    def trace(self) -> str:
        """W3C traceparent, or empty."""
        return self._env[TRACE]

    @property
    def after(self) -> str:
        """Id of the event that must be handled first, or empty."""
        return self._env[AFTER]

    @property
    def body(self) -> bytes:
        """The opaque body."""
        return self._env[BODY]

    @property
    def raw(self) -> Envelope:
        """The tuple itself."""
        return self._env

    def __repr__(self) -> str:
        env = self._env
        return f"<{env[KIND]} {self.id} session={env[SESSION]} lane={self.lane.name.lower()} {len(env[BODY])}B>"
