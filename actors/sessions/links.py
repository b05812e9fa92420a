"""The links of one session: who is connected, where each one resumes, how far the best may read.

Law of this file: one live link per client, the newest wins; a resume is whole or it fails and a
snapshot follows; cursors are positions in a log, never capabilities (the principal was checked).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from laneway.actors.meters import SessionMeters
from laneway.actors.ports import Clock, Principal
from laneway.actors.sessions.attachment import Attachment, LinkOwner
from laneway.actors.sessions.outbound import DATA, URGENT, Outbound
from laneway.actors.sessions.stretches import Stretches
from laneway.actors.spans import SpanValue
from laneway.routing.classify import KindTable
from laneway.routing.errors import AccessError, LaneFull, LanewayError, PeerProtocolError, Superseded
from laneway.routing.handshake import Hello, LinkPolicy, negotiate
from laneway.routing.link import Link, LinkFrame
from laneway.routing.quality import Grade
from laneway.routing.replay import Cursor
from laneway.routing.shedding import Shedding

__all__ = ["Links"]


class Links:
    """Attachments of one session by client id.

    Args:
        floors: stream -> first seq the log still holds; the owner moves it when it trims.
        begins: run -> the seqs after which it begins (urgent, data), or None.
        run_over: whether a run was asked for and has ended.
        meters: counter `link.attached`.
        stretches: as for an attachment. shedding: as for a link.
    """

    def __init__(
        self,
        outbound: Outbound,
        *,
        session: str,
        epoch: str,
        floors: dict[int, int],
        kinds: KindTable,
        clock: Clock,
        policy: LinkPolicy,
        max_links: int,
        link_ids: Callable[[], str],
        begins: Callable[[str], tuple[int, int] | None],
        run_over: Callable[[str], bool],
        meters: SessionMeters | None = None,
        stretches: Stretches | None = None,
        shedding: Shedding | None = None,
    ) -> None:
        self._outbound = outbound
        self._session = session
        self._epoch = epoch
        self._floors = floors
        self._kinds = kinds
        self._clock = clock
        self._policy = policy
        self._max_links = max_links
        self._link_ids = link_ids
        self._begins = begins
        self._run_over = run_over
        self._meters = meters or SessionMeters()
        self._stretches = stretches
        self._shedding = shedding
        self._thinned = (0, 0, 0)
        self._attached: list[Attachment] = []
        self._by_client: dict[str, Attachment] = {}
        outbound.bind_grants(self._furthest_grant)

    def __len__(self) -> int:
        return len(self._by_client)

    def get(self, client: str) -> Attachment | None:
        """Return the client's live attachment, or None."""
        return self._by_client.get(client)

    def attach(
        self, owner: LinkOwner, hello: Hello, principal: Principal, origin: Mapping[str, SpanValue] = {}
    ) -> Attachment:
        """Add a link; `owner` and `origin` as for an attachment.

        Raises:
            LaneFull: too many links. AccessError: the client id is somebody else's.
            PeerProtocolError: a cursor beyond what was ever sent.
        """
        cursor, resume, reason = self._resume_point(hello)
        now = self._clock.now()
        plan = negotiate(hello, self._policy)
        self._make_room(hello, principal)  # last: who is refused ends nobody's link
        self._meters.count("link.attached", resume=resume)
        link = Link(plan, *self._outbound.rings, cursor, self._kinds, now, self._shedding)
        if hello.grant is not None and resume == "resumed":
            link.receive({"grant": hello.grant}, now)
        welcome = self._welcome(link, plan.describe(), cursor, resume, reason)
        if hello.run and self._run_over(hello.run):
            welcome["over"] = True
        opening = [LinkFrame({"welcome": welcome}, [])]
        if resume in ("new", "failed") and len(self._outbound.transcript):
            opening.append(LinkFrame({"snapshot": True}, [owner.snapshot()]))
        attachment = Attachment(
            owner,
            link,
            client=hello.client,
            principal=principal,
            clock=self._clock,
            opening=opening,
            stretches=self._stretches,
            origin=origin,
        )
        self._by_client[hello.client] = attachment
        self._attached.append(attachment)
        self._outbound.acked(link.acked_position)
        self._outbound.wake_producers()
        return attachment

    def _make_room(self, hello: Hello, principal: Principal) -> None:
        older = self._by_client.get(hello.client)
        if older is not None:
            if older.principal.subject != principal.subject:
                raise AccessError("this client id belongs to somebody else in this session; choose another")
            older.end(Superseded("a newer connection of this client took over", reason="NEWER_LINK"))
        elif len(self._by_client) >= self._max_links:
            raise LaneFull(f"session has {self._max_links} links already; close one first", retry_after_ms=5000)

    def _resume_point(self, hello: Hello) -> tuple[Cursor, str, str]:
        """Return where sending starts, and "new", "resumed", "run" or "failed" with its reason."""
        heads = [ring.committed for ring in self._outbound.rings]
        here = Cursor(self._epoch, heads[URGENT], heads[DATA])
        asked, how = hello.cursor, "resumed"
        if asked is None:
            begins = self._begins(hello.run) if hello.run else None
            if begins is None:
                return here, "new", ""
            asked, how = Cursor(self._epoch, *begins), "run"
        if asked.epoch != self._epoch:
            return here, "failed", "EPOCH_MISMATCH"
        for stream, seq in ((URGENT, asked.urgent), (DATA, asked.data)):
            if seq > heads[stream]:
                raise PeerProtocolError(
                    f"cursor {seq} lies beyond the last event {heads[stream]} of this session", reason="OUT_OF_RANGE"
                )
            if seq + 1 < min(self._floors.get(stream, 1), self._outbound.rings[stream].first):
                return here, "failed", "OUT_OF_WINDOW"
        return asked, how, ""

    def _welcome(self, link: Link, plan: Mapping[str, Any], cursor: Cursor, resume: str, reason: str) -> dict[str, Any]:
        return {
            "v": 1,
            "link": self._link_ids(),
            "session": self._session,
            "epoch": self._epoch,
            "resume": resume,
            "reason": reason,
            "cursor": [cursor.epoch, cursor.urgent, cursor.data],
            "position": link.start_position,
            "grant": link.granted,
            "plan": dict(plan),
        }

    def moved(self, attachment: Attachment) -> None:
        """Its acks, grants or position moved: remember the furthest ack, let producers go on. O(1)."""
        self._outbound.taken(attachment.link.acked_position)

    def remove(self, attachment: Attachment) -> None:
        """Forget a link that is over (a superseded one has been replaced already)."""
        if self._by_client.get(attachment.client) is attachment:
            del self._by_client[attachment.client]
        if attachment in self._attached:
            self._attached.remove(attachment)
        self._outbound.forget_grants()
        self._thinned = self._thinned_with([attachment])
        self._outbound.wake_producers()

    def thinned(self) -> tuple[int, int, int]:
        """Return how many events links were told as a GAP, how many travelled in another's item, and how many were
        left out because a later one made them unnecessary. O(links)."""
        return self._thinned_with(self._attached)

    def grades(self) -> tuple[int, ...]:
        """Return how many links have each grade, the best first. O(links)."""
        found = [0] * len(Grade)
        for attachment in self._by_client.values():
            found[attachment.link.quality.grade] += 1
        return tuple(found)

    def _thinned_with(self, attachments: Iterable[Attachment]) -> tuple[int, int, int]:
        rows = [attachment.link.statistics() for attachment in attachments]
        gapped, merged, conflated = self._thinned
        return (
            gapped + sum(sum(row.gapped) for row in rows),
            merged + sum(row.merged for row in rows),
            conflated + sum(sum(row.conflated) for row in rows),
        )

    def wake(self) -> None:
        """There is something new to send: wake the links that would not look in time by themselves. O(links)."""
        for attachment in self._by_client.values():
            if attachment.link.stirs:
                attachment.wake()

    def rouse(self) -> None:
        """There will be, when this turn of the loop is over: call those of them that wait. O(links)."""
        for attachment in self._by_client.values():
            if attachment.waits and attachment.link.stirs:
                attachment.wake()

    def tell(self, **fields: object) -> None:
        """Put header content into every link's next frame."""
        for attachment in self._by_client.values():
            attachment.tell(**fields)

    def end(self, error: LanewayError) -> None:
        """Close every link; each sends what is due first."""
        for attachment in list(self._by_client.values()):
            attachment.end(error)

    def _furthest_grant(self) -> int | None:
        return max((a.link.granted for a in self._by_client.values() if a.live), default=None)
