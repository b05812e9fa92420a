"""Both laws of conservation (ADR 6), as every simulation asks for them: at each moment, and at the end.

Law of this file: inbound each event is in one account; outbound each seq of each link and stream is. A
link's own sum can only agree with itself, so at the end the receivers are asked: what a session issued
is, for each of its clients, what that client had before it came, got, was told as a GAP, had voided by
its run's error, or was put past by a resume that failed. Nothing is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.routing.classify import BUILTIN_KINDS
from laneway.routing.envelope import KIND
from laneway.routing.inbox import SNAPSHOT, Received

__all__ = ["Account", "Reader", "accounts", "received", "unbalanced"]

_TEXT = frozenset(kind.name for kind in BUILTIN_KINDS if kind.text)


class Reader(Protocol):
    """What one client got between two fresh starts; see `history.Segment`."""

    tenant: str
    session: str
    client: str
    start: tuple[int, int]
    items: list[Received]


class Account(NamedTuple):
    """Where the seqs of one stream are, for one client of its session.

    Attributes:
        issued: numbered by the session. before: when the client first came.
        delivered: given to it, alone or merged. conflated: left out for a later one. gapped: told as a GAP.
        voided: passed over, because an error ended their run. out_of_window: passed by a fresh start.
        pending: not there yet.
    """

    issued: int
    before: int
    delivered: int
    conflated: int
    gapped: int
    voided: int
    out_of_window: int
    pending: int


def unbalanced(dispatcher: Dispatcher, directory: SessionDirectory) -> list[str]:
    """Return what does not add up in one process, whatever is under way. O(links of its sessions).

    A link that another front relays is a link of the session's home, and is looked at there.
    """
    found = []
    books = dispatcher.statistics()
    over = books.handled + books.expired + books.dropped + books.cancelled + books.failed + books.dead
    if books.accepted != over + books.pending:
        found.append(f"the dispatcher accepted {books.accepted} events and accounts for {over + books.pending}")
    for home in directory.homes():
        committed = [ring.committed for ring in home.outbound.rings]
        for attachment in home.links._attached:
            link = attachment.link
            counted = link.statistics()
            for stream, head in enumerate(committed):
                due = head - link._tally._start[stream]
                terms = (counted.delivered, counted.conflated, counted.gapped, counted.pending)
                accounted = sum(term[stream] for term in terms)
                if due != accounted:
                    found.append(f"a link was due {due} seqs of stream {stream} and accounts for {accounted}")
                acked, sent = (cursor[1 + stream] for cursor in (link.acked, link.sent))
                if not acked <= sent <= head <= home.outbound.rings[stream].head:
                    found.append(f"a link has {acked} acked and {sent} sent of stream {stream}, {head} are committed")
    return found


def received(readers: Sequence[Reader], stream: int, issued: int) -> Account:
    """Return one client's account of one stream. O(items).

    Args:
        readers: of this client, in the order of their fresh starts; at least one.
    """
    before = at = readers[0].start[stream]
    sums: dict[str, int] = defaultdict(int)
    for reader in readers:
        sums["out_of_window"] += max(0, reader.start[stream] - at)
        at = max(at, reader.start[stream])
        for item in reader.items:
            if item.stream not in (stream, SNAPSHOT):
                continue
            if item.stream == SNAPSHOT or item.last < at:
                continue
            sums["voided"] += max(0, item.first - at - 1)
            first = max(item.first, at + 1)
            last = item.last if item.whole else item.last - 1
            span = max(0, last - first + 1)
            if item.gap is not None:
                sums["gapped"] += span
            elif item.envelope[KIND] in _TEXT:
                sums["delivered"] += span
            else:
                sums["delivered"] += min(span, 1)
                sums["conflated"] += max(0, span - 1)
            at = max(at, last)
    names = ("delivered", "conflated", "gapped", "voided", "out_of_window")
    return Account(issued, before, *(sums[name] for name in names), issued - at)


def accounts(
    readers: Iterable[Reader], issued: Mapping[tuple[str, str], tuple[int, int]]
) -> Iterator[tuple[Reader, int, Account]]:
    """Yield (its newest part, stream, account) of every client that was ever let in. O(items)."""
    mine: dict[tuple[str, str, str], list[Reader]] = defaultdict(list)
    for reader in readers:
        mine[reader.tenant, reader.session, reader.client].append(reader)
    for (tenant, session, _), rows in mine.items():
        for stream, count in enumerate(issued[tenant, session]):
            yield rows[-1], stream, received(rows, stream, count)
