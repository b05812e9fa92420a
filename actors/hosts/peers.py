"""How hosts talk: numbered plain messages on two ordered streams, and the port that carries them.

Law of this file: a connection is never mended. When it breaks, both sides are told once, everything
that was under way over it is over, and a new connection is a new Peer: nothing of the old one is
ever believed again. Messages are tuples of msgpack's plain types; the first two items are the verb
and a number. Who sends keeps its own credit, so nothing here is unbounded: cells by ROOM, emitted
events by EMITTED, links by NEXT, and all that fronts relay to each other together by TOOK.

What is sent about one delivery (DELIVER, EMIT, DONE, HANDLED) keeps its order; so does what is sent about
one relayed link. A CANCEL goes by the urgent stream and may overtake its DELIVER.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeAlias

from laneway.routing.errors import LanewayError

__all__ = [
    "ANSWER",
    "ASK",
    "ATTACH",
    "ATTACHED",
    "CANCEL",
    "DELIVER",
    "DONE",
    "EMIT",
    "EMITTED",
    "ENDED",
    "HAND",
    "HANDED",
    "HANDLED",
    "INGEST",
    "LEAVE",
    "LINK_IN",
    "LINK_OUT",
    "NEXT",
    "REPLY",
    "REQUEST",
    "ROOM",
    "TOLD",
    "TOOK",
    "UNREAD",
    "VERBS",
    "Message",
    "Peer",
    "Receiver",
]

Message: TypeAlias = tuple[Any, ...]
"""(verb, number, ...): ints, floats, str, bytes, bool, None, and lists and dicts of them."""

# -- a front and the pools that a host serves for it ----------------------------------------------
ROOM: Final = 1
"""host -> front: (ROOM, 0, pool, cell, ordinary, critical): so many of the front's events may be with
the cell at once; absolute, sent again when it changes, first of all when the connection begins."""
DELIVER: Final = 2
"""front -> host: (DELIVER, n, cell, packed event, [subject, tenant, scopes, expires_at], history): n is
the front's, never used twice on a connection; `history` is packed AG-UI messages, or None."""
CANCEL: Final = 3
"""front -> host: (CANCEL, n, reason): end delivery n; harmless if it is over or yet to come."""
EMIT: Final = 4
"""host -> front: (EMIT, n, [packed event, ...]): what the handler of delivery n says, in order."""
EMITTED: Final = 5
"""front -> host: (EMITTED, n, bytes, code, message, retryable): the session has taken so many bytes
of n's events since it began; or, with a code, takes no more for this reason."""
DONE: Final = 6
"""host -> front: (DONE, n, status, value, code, message, retryable): the outcome, after its last EMIT."""
ASK: Final = 7
"""host -> front: (ASK, q, n, packed event, timeout_s): dispatch this for the handler of delivery n; the
same q again with None for the event: nobody waits for it any more, so end it."""
ANSWER: Final = 8
"""front -> host: (ANSWER, q, status, value, code, message, retryable): what came of ASK q."""

# -- questions, either way ------------------------------------------------------------------------
REQUEST: Final = 9
"""(REQUEST, q, service, method, arguments): answered by exactly one REPLY, unless the peer is lost."""
REPLY: Final = 10
"""(REPLY, q, value, None) or (REPLY, q, None, [code, message, reason, retryable, retry_after_ms])."""

# -- a front and the front where a session is at home ---------------------------------------------
ATTACH: Final = 11
"""(ATTACH, a, hello fields, [subject, tenant, scopes, expires_at], origin): open or resume a link there."""
ATTACHED: Final = 12
"""(ATTACHED, a): it is open; its frames are asked for with NEXT."""
NEXT: Final = 13
"""(NEXT, a): one more LINK_OUT may be sent. At most two are under way."""
LINK_OUT: Final = 14
"""(LINK_OUT, a, [[header, [packed event, ...]], ...]): frames due now, in order."""
LINK_IN: Final = 15
"""(LINK_IN, a, header, [packed event, ...]): a frame of the client."""
LEAVE: Final = 16
"""(LEAVE, a, error or None): the client's side is over; `error` as in REPLY."""
ENDED: Final = 17
"""(ENDED, a, error): the link is over, or was refused; nothing follows."""
INGEST: Final = 18
"""(INGEST, i, session, client, principal, origin, [packed event, ...]): events beside a link."""
TOLD: Final = 19
"""(TOLD, i, fields): what a speaker of INGEST i is told (`ok`, `refused`, `notice`), or `error`, as in
REPLY, if the session could not be reached: then nothing was taken."""
HAND: Final = 20
"""(HAND, h, [packed event, ...]): outbound events for a session that is at home there."""
HANDED: Final = 21
"""(HANDED, h, error or None): the session has taken them all, or why not."""
TOOK: Final = 22
"""(TOOK, 0, bytes): so much of LINK_OUT, LINK_IN, INGEST and HAND was taken since the connection began,
in the sender's own count; so much more than that may be under way, see `Flow`."""


HANDLED: Final = 23
"""host -> front: (HANDLED, 0, [[n, [packed event, ...]], ...]): these deliveries were handled and have no
value, after having said this; for each instead of an EMIT and a DONE."""

UNREAD: Final = 24
"""host -> front: (UNREAD, n, policy): what becomes of the run of delivery n where nobody reads it."""

VERBS: Final = frozenset(range(ROOM, UNREAD + 1))


class Peer(Protocol):
    """One live connection to another host."""

    @property
    def name(self) -> str:
        """The other host's name."""
        ...

    @property
    def incarnation(self) -> str:
        """Which life of it; a host that was restarted has another."""
        ...

    @property
    def alive(self) -> bool:
        """False once it is lost; it never comes back."""
        ...

    def send(self, message: Message, *, urgent: bool = False) -> None:
        """Queue a message; never waits and never raises for a lost peer (`Receiver.lost` has told).

        Raises LocalProtocolError for what no message can carry: not of plain types, or above 4 MiB.

        Messages of one stream arrive in order, each once, or the peer is lost. A peer whose queue
        grows beyond the connection's bound is lost too.
        """
        ...

    def close(self, error: LanewayError) -> None:
        """End the connection; both sides are told. Idempotent."""
        ...


class Receiver(Protocol):
    """Who is told what a connection brings; implemented by `Switchboard`."""

    def connected(self, peer: Peer) -> None:
        """A connection is up; messages may be sent at once."""
        ...

    def received(self, peer: Peer, message: Message) -> None:
        """A message came, in its stream's order. Must not raise nor wait."""
        ...

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """The connection is over; told exactly once, after its last message."""
        ...
