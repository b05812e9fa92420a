"""Updates that wait for their document together: of one author they are one transaction, one record, one telling.

Law of this file: each edit has the answer that it would have had alone, in order; what is shared is the cost of
the transaction (18 us of an update alone are 1.5 us among 64, pycrdt 0.14.13), of the log and of the telling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from laneway.actors.sync.content import Content
from laneway.actors.sync.keystroke import join_keystrokes, parse_keystroke
from laneway.actors.sync.messages import MessageType, decode_message
from laneway.actors.sync.update import Update, parse_update
from laneway.actors.sync.views import Origin
from laneway.routing.envelope import BODY, KIND, PRODUCER, SESSION, TRACE, Envelope
from laneway.routing.errors import LanewayError, PeerProtocolError

__all__ = ["Answer", "Edit", "Taken", "carries_update", "edits_in", "first_run", "parse", "take_in"]

_RUN_BYTES: Final = 16_384
"""Updates of one transaction: what is told at once stays far below an event's bounds."""

_RUN_EVENTS: Final = 128
"""Keystrokes of 127 characters, so many, are 16 KiB."""

_STEP2, _UPDATE = (bytes(divmod(kind, 10)) for kind in (MessageType.STEP2, MessageType.UPDATE))
"""How a body begins that carries an update."""

Answer: TypeAlias = bool | LanewayError
"""Whether an edit waits for missing ones (it is logged all the same); or why it was refused or is not in the log."""


class Edit(NamedTuple):
    """A peer's update on its way into a document.

    Attributes:
        events: how many events it came in; several are keystrokes that continue each other.
    """

    update: Update
    origin: Origin
    trace: str
    events: int = 1


def parse(data: bytes) -> Update:
    """Read an update; the commonest one faster. Raises PeerProtocolError."""
    return parse_keystroke(data) or parse_update(data)


def carries_update(env: Envelope) -> bool:
    """True for an event that seems to carry an update; `edits_in` knows."""
    return env[KIND] == "DOC_SYNC" and env[BODY][:2] in (_STEP2, _UPDATE)


def edits_in(envs: Sequence[Envelope]) -> list[Edit | None]:
    """Return the edits that events carry, in order; None for an event that is empty, or has a fault."""
    payloads = [_payload(env[BODY]) for env in envs]
    edits: list[Edit | None] = []
    at = 0
    while at < len(envs):
        origin = (envs[at][SESSION], envs[at][PRODUCER])
        end = at + 1
        while end < len(envs) and (envs[end][PRODUCER], envs[end][SESSION]) == (origin[1], origin[0]):
            end += 1
        while at < end:
            joined = join_keystrokes(payloads, at, min(end, at + _RUN_EVENTS))
            update, events = joined or (_parsed(payloads[at]), 1)
            trace = next((env[TRACE] for env in envs[at : at + events] if env[TRACE]), "")
            edits.append(None if update is None else Edit(update, origin, trace, events))
            at += events
    return edits


def _payload(body: bytes) -> bytes:
    if len(body) > 3 and body[:2] == _UPDATE and body[2] == len(body) - 3 and body[2] < 128:
        return body[3:]
    try:
        return decode_message(body).payload
    except PeerProtocolError:
        return b""


def _parsed(payload: bytes) -> Update | None:
    try:
        update = parse(payload)
    except PeerProtocolError:
        return None
    return None if update.empty else update


class Taken(NamedTuple):
    """What became of the first edits of a run, one at least.

    Attributes:
        answers: one for each. blob: what is to be logged. told: what is to be told.
    """

    answers: Sequence[Answer]
    blob: bytes
    told: list[bytes]


def first_run(edits: Sequence[Edit], at: int, room_bytes: int) -> Sequence[Edit]:
    """Return the edits from `at` on that may be one transaction: one author's, 16 KiB and `room_bytes` at most."""
    origin, size = edits[at].origin, 0
    for place in range(at, len(edits)):
        edit = edits[place]
        size += len(edit.update.raw)
        if edit.origin != origin or size > _RUN_BYTES or size > room_bytes:
            return edits[at : max(place, at + 1)]
    return edits[at:]


def take_in(content: Content, run: Sequence[Edit]) -> Taken:
    """Apply the first edits of a run: all up to one that has a gap before it. O(updates + clients).

    Raises PeerProtocolError: of a run of one, its answer; else nobody's, and each is to be tried alone.
    """
    if len(run) > 1 and not content.pending:
        answers, fresh = content.integrate_all([edit.update for edit in run])
        if answers:
            return Taken(answers, fresh, [fresh] if fresh else [])
    update = run[0].update
    done = content.integrate(update)
    told = [done.fresh, *done.released] if done.fresh else done.released
    return Taken((done.held,), update.raw if done.held else done.fresh, told)
