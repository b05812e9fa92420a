"""Which hosts a cluster has: who has beaten lately, and which life of a host is over for good.

Law of this file: a host is a member while it beats. One that was silent for `lost_s` is dropped, and
that incarnation never comes back: it may have been a zombie, and others have taken over from it. A
restarted host is a new incarnation of the same name. Until a fresh table has heard for `lost_s` what
beats, its view is not settled, and nobody may be taken for lost because it is missing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["FRONT", "POOL", "Member", "View"]

FRONT = "front"
"""Carries edge, dispatcher and session homes."""
POOL = "pool"
"""Carries cells of pools."""


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
