"""Which hosts a cluster has: who has beaten lately, and which life of a host is over for good.

Law of this file: a host is a member while it beats. One that was silent for `lost_s` is dropped, and
that incarnation never comes back: it may have been a zombie, and others have taken over from it. A
restarted host is a new incarnation of the same name. Until a fresh table has heard for `lost_s` what
beats, its view is not settled, and nobody may be taken for lost because it is missing there. Time in
which the table itself did not listen is nobody's silence.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["FRONT", "POOL", "Member", "Membership", "View", "succeeding"]

FRONT = "front"
"""Carries edge, dispatcher and session homes."""
POOL = "pool"
"""Carries cells of pools."""

_MAX_OVER: Final = 4_096
"""Lives remembered as over, about 0.5 MB. A zombie older than so many deaths may come back as a member;
what it writes is still refused by the store's generation."""


class Member(NamedTuple):
    """One host, as it describes itself.

    Attributes:
        name: unique in the cluster, stable over restarts. incarnation: one life of it.
        role: FRONT or POOL. address: HOST:PORT of its peer server.
        node: the machine (Ray node id). pid: its process there. pools: whose cells it carries.
        version: of laneway.
    """

    name: str
    incarnation: str
    role: str
    address: str
    node: str = ""
    pid: int = 0
    pools: tuple[str, ...] = ()
    version: str = ""


class View(NamedTuple):
    """The members at one moment.

    Attributes:
        number: grows with each change. members: by name. settled: see the law of this file.
    """

    number: int
    members: tuple[Member, ...]
    settled: bool

    def of(self, role: str) -> Sequence[Member]:
        """Return the members of one role, by name."""
        return [member for member in self.members if member.role == role]


def succeeding(known: View, fresh: View) -> View:
    """Return what is known once `fresh` came: an unsettled view adds and replaces, it takes nobody away."""
    if fresh.settled:
        return fresh
    members = {member.name: member for member in (*known.members, *fresh.members)}
    return fresh._replace(members=tuple(sorted(members.values())))


class Membership:
    """The table of one registry.

    Args:
        lost_s: silence after which a member is dropped, in seconds.
        now: monotonic seconds of its begin. number: the first view's; a registry that begins anew
            takes a higher one than it can have reached before.

    The caller looks (`beat` or `poll`) at least every `lost_s / 2`; a longer pause counts as time in
    which the table did not listen. Every call is O(1), but for `view` after a change and `heard`: O(n).
    """

    __slots__ = ("_heard_at", "_looked_at", "_lost_s", "_members", "_over", "_settles_at", "_view")

    def __init__(self, lost_s: float, now: float, *, number: int = 0) -> None:
        self._lost_s = lost_s
        self._members: dict[str, Member] = {}
        self._heard_at: OrderedDict[str, float] = OrderedDict()  # by name, the longest silent first
        self._over: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._looked_at = now
        self._settles_at = now + lost_s
        self._view = View(number, (), settled=False)

    def beat(self, member: Member, now: float) -> bool:
        """Take a sign of life. Returns False if this incarnation was dropped or left: it must not go on.

        An unknown incarnation of a known name takes its place, and the former is over.
        """
        self._listen(now)
        life = (member.name, member.incarnation)
        if life in self._over:
            return False
        former = self._members.get(member.name)
        if former is not None and former.incarnation != member.incarnation:
            self._forget(former)
        self._heard_at[member.name] = now
        self._heard_at.move_to_end(member.name)
        if former != member:
            self._members[member.name] = member
            self._changed()
        return True

    def leave(self, name: str, incarnation: str) -> None:
        """End a life at its own wish; a beat of it that is still under way changes nothing. Idempotent."""
        member = self._members.get(name)
        if member is not None and member.incarnation == incarnation:
            self._forget(member)
            self._changed()
        else:
            self._remember((name, incarnation))

    def poll(self, now: float) -> list[Member]:
        """Drop who was silent for `lost_s`, and return them."""
        self._listen(now)
        dropped = []
        while self._heard_at:
            name, heard_at = next(iter(self._heard_at.items()))
            if now - heard_at < self._lost_s:
                break
            dropped.append(self._members[name])
            self._forget(self._members[name])
        settled = self._view.settled or now >= self._settles_at
        if dropped or settled != self._view.settled:
            self._view = self._view._replace(settled=settled)
            self._changed()
        return dropped

    def exceed(self, number: int) -> None:
        """Somebody has seen a view of this number, made before this table began: later ones have higher numbers."""
        if number > self._view.number:
            self._view = self._view._replace(number=number + 1)

    def view(self) -> View:
        """Return the members as of the last call."""
        return self._view

    def heard(self, now: float) -> list[tuple[Member, float]]:
        """Return each member, by name, with the seconds since its last beat."""
        return [(member, max(0.0, now - self._heard_at[member.name])) for member in self._view.members]

    def deadline(self) -> float:
        """When the view changes if nobody beats, in monotonic seconds; infinity if it never does."""
        silent = next(iter(self._heard_at.values()), float("inf")) + self._lost_s
        return silent if self._view.settled else min(silent, self._settles_at)

    def _listen(self, now: float) -> None:
        """Forgive every member the time in which the table did not look."""
        deaf_s = now - self._looked_at
        self._looked_at = max(now, self._looked_at)
        if deaf_s <= self._lost_s / 2:
            return
        for name in self._heard_at:
            self._heard_at[name] += deaf_s
        if not self._view.settled:
            self._settles_at += deaf_s

    def _forget(self, member: Member) -> None:
        del self._members[member.name]
        del self._heard_at[member.name]
        self._remember((member.name, member.incarnation))

    def _remember(self, life: tuple[str, str]) -> None:
        self._over[life] = None
        self._over.move_to_end(life)
        if len(self._over) > _MAX_OVER:
            self._over.popitem(last=False)

    def _changed(self) -> None:
        members = tuple(sorted(self._members.values()))
        self._view = self._view._replace(number=self._view.number + 1, members=members)
