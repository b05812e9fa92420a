"""Tickets: what a browser puts into a URL where it cannot send a header.

Law of this file: a ticket is random, good for one use within 30 seconds, for one path and the
principal it was given to; the table is bounded and forgets the oldest.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from laneway.actors.ports import Clock, Principal
from laneway.routing.errors import RateLimited, TokenInvalid

__all__ = ["TICKET_S", "Tickets"]

TICKET_S: Final = 30.0
_MOST: Final = 10_000
_MOST_OF_ONE: Final = 64


class _Ticket(NamedTuple):
    principal: Principal
    path: str
    until: float


class Tickets:
    """The tickets of one edge that were given and not used.

    Args:
        secret: makes one; default: 192 random bits.
    """

    def __init__(self, clock: Clock, secret: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> None:
        self._clock = clock
        self._secret = secret
        self._tickets: OrderedDict[str, _Ticket] = OrderedDict()
        self._of_principal: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._tickets)

    def issue(self, principal: Principal, path: str) -> str:
        """Return a new ticket. Raises RateLimited if this principal has 64 unused ones."""
        self._forget_old()
        key = (principal.tenant, principal.subject)
        if self._of_principal[key] >= _MOST_OF_ONE:
            raise RateLimited(f"you have {_MOST_OF_ONE} unused tickets", retry_after_ms=int(TICKET_S * 1000))
        if len(self._tickets) >= _MOST:
            self._drop(next(iter(self._tickets)))
        ticket = self._secret()
        self._tickets[ticket] = _Ticket(principal, path, self._clock.now() + TICKET_S)
        self._of_principal[key] += 1
        return ticket

    def redeem(self, ticket: str, path: str) -> Principal:
        """Return whose ticket it was; it is used up. Raises TokenInvalid, alike for every reason."""
        self._forget_old()
        known = self._drop(ticket) if ticket in self._tickets else None
        if known is None or known.path != path:
            raise TokenInvalid(
                "this ticket is unknown, used, over, or for another path; fetch one from POST /v1/handshake",
                reason="TICKET",
            )
        return known.principal

    def _drop(self, ticket: str) -> _Ticket:
        known = self._tickets.pop(ticket)
        key = (known.principal.tenant, known.principal.subject)
        self._of_principal[key] -= 1
        if not self._of_principal[key]:
            del self._of_principal[key]
        return known

    def _forget_old(self) -> None:
        """All live equally long: the oldest are in front."""
        now = self._clock.now()
        while self._tickets and next(iter(self._tickets.values())).until <= now:
            self._drop(next(iter(self._tickets)))
