"""One-time tickets for URLs."""

from __future__ import annotations

import pytest

from laneway.actors.ports import Principal
from laneway.engine.edge.tickets import TICKET_S, Tickets
from laneway.routing.errors import RateLimited, TokenInvalid

ADA = Principal("ada", "acme", frozenset({"admin"}), 1e12)


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


def test_a_ticket_is_its_principal_once() -> None:
    """With scopes and end of the credentials; the second time it is nobody's."""
    tickets = Tickets(Clock())
    ticket = tickets.issue(ADA, "/v1/stream")
    assert len(ticket) >= 32
    assert tickets.redeem(ticket, "/v1/stream") is ADA
    with pytest.raises(TokenInvalid):
        tickets.redeem(ticket, "/v1/stream")
    assert len(tickets) == 0


def test_a_ticket_for_another_path_is_spent_by_the_attempt() -> None:
    """Nobody tries paths with it."""
    tickets = Tickets(Clock())
    ticket = tickets.issue(ADA, "/v1/stream")
    for path in ("/sync/doc", "/v1/stream"):
        with pytest.raises(TokenInvalid):
            tickets.redeem(ticket, path)


def test_a_ticket_ends() -> None:
    """After 30 s, used or not, and leaves nothing behind."""
    clock = Clock()
    tickets = Tickets(clock)
    ticket = tickets.issue(ADA, "/v1/stream")
    clock.time = TICKET_S
    with pytest.raises(TokenInvalid):
        tickets.redeem(ticket, "/v1/stream")
    assert len(tickets) == 0


def test_the_table_is_bounded() -> None:
    """For one principal by a refusal, in all by forgetting the oldest."""
    clock = Clock()
    tickets = Tickets(clock)
    first = tickets.issue(ADA, "/")
    for _ in range(63):
        tickets.issue(ADA, "/")
    with pytest.raises(RateLimited):
        tickets.issue(ADA, "/")
    for n in range(10_000):
        tickets.issue(Principal(f"user-{n}"), "/")
    assert len(tickets) == 10_000
    with pytest.raises(TokenInvalid):
        tickets.redeem(first, "/")
    tickets.issue(ADA, "/")
