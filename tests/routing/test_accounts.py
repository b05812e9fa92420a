"""Accounts of sessions and tenants: found, bounded, forgotten when idle."""

from __future__ import annotations

from laneway.routing.accounts import Accounts
from laneway.routing.envelope import envelope


def test_an_account_belongs_to_its_tenant() -> None:
    """The same session name in two tenants is two accounts; a tenant goes with its last session."""
    accounts = Accounts(10)
    one, other = accounts.open("t", "s"), accounts.open("u", "s")
    assert accounts.find("t", "s") is one
    assert accounts.find("u", "s") is other
    assert accounts.find("t", "x") is None
    assert len(accounts) == 2
    assert accounts.forget("t", "s", 0.0)
    assert accounts.forget("t", "s", 0.0), "nothing is left of it"
    assert accounts.find("t", "s") is None
    assert list(accounts.tenants) == ["u"]


def test_an_account_with_events_in_flight_is_not_forgotten() -> None:
    """Neither on request nor to make room; an idle one goes when room is needed."""
    accounts = Accounts(2)
    accounts.open("t", "busy").events = 1
    accounts.open("t", "idle")
    assert not accounts.forget("t", "busy", 0.0)
    assert accounts.find("t", "busy") is not None
    assert accounts.make_room(0.0)
    assert accounts.find("t", "idle") is None
    assert accounts.find("t", "busy") is not None


def test_an_account_is_not_forgotten_for_a_fresh_burst() -> None:
    """As long as a session's rate has something to remember, leaving does not renew it."""
    accounts = Accounts(2)
    accounts.open("t", "s").arrival = 7.5
    assert not accounts.forget("t", "s", 7.0)
    assert accounts.forget("t", "s", 7.5)
    assert len(accounts) == 0


def test_what_is_remembered_of_refusals_is_bounded() -> None:
    """A refused event counts as not yet come, until 256 others were refused."""
    account = Accounts(1).open("t", "s")
    account.meet("p", 1_000)
    for number in range(1, 300):
        account.remember_refused(envelope("K", producer="p", counter=number, tenant="t", session="s", lane=1))
    assert len(account.refused) == 256
    assert account.settled("p", 299) is False
    assert account.settled("p", 1) is True
    assert account.settled("p", 1_001) is False
    assert account.settled("nobody", 1) is None
