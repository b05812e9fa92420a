"""What a front knows of the others."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.homes.company import Company
from laneway.actors.homes.deeds import Life
from laneway.routing.errors import RuntimeUnavailable
from laneway.routing.membership import FRONT, POOL, Member, View
from tests.simulation.loop import run

A, B = Life("a", "1"), Life("b", "1")


def _view(number: int, *lives: Life, settled: bool = True) -> View:
    fronts = [Member(life.name, life.incarnation, FRONT, "x:1") for life in lives]
    return View(number, (*fronts, Member("p", "1", POOL, "p:1")), settled)


def test_only_fronts_count() -> None:
    """Itself and pool hosts are no company; before the first settled view nobody is alone for certain."""
    company = Company("a")
    assert not company.alone
    company.saw(_view(1, A, settled=False))
    assert not company.alone
    company.saw(_view(2, A))
    assert company.alone
    assert company.others == []
    company.saw(_view(3, A, B))
    assert not company.alone
    assert company.others == [B]
    assert company.get("b") == B
    assert company.get("p") is None
    assert company.lives(B)
    assert not company.lives(Life("b", "2"))


def test_an_older_view_is_not_taken() -> None:
    """It changes nothing and says so."""
    company = Company("a")
    assert company.saw(_view(5, A, B))
    assert not company.saw(_view(4, A))
    assert company.others == [B]


def test_somebody_who_spoke_is_company_before_the_view_has_him() -> None:
    """Until a view as new as his own says who there is."""
    company = Company("a")
    company.saw(_view(1, A))
    company.expect(3)
    assert not company.alone
    company.saw(_view(2, A))
    assert not company.alone
    company.saw(_view(3, A))
    assert company.alone


def test_a_life_is_over_by_a_settled_view_that_is_new_enough() -> None:
    """An older one, and one that is not settled, are waited out; a view in which it is ends the wait too."""

    async def main() -> None:
        company = Company("a")
        company.saw(_view(3, A))
        assert not await company.goes_on(B, 3)
        for last, lives in ((_view(5, A), False), (_view(6, A, B), True)):
            asked = asyncio.create_task(company.goes_on(B, last.number))
            await asyncio.sleep(1)
            company.saw(_view(last.number, A, settled=False))
            await asyncio.sleep(1)
            assert not asked.done()
            company.saw(last)
            assert await asked is lives

    run(main())


def test_no_wait_is_for_ever() -> None:
    """Without any view for 5 s it is RUNTIME_UNAVAILABLE, with a hint when to come back; `wake` lets all look again."""

    async def main() -> None:
        company = Company("a")
        for waiting in (company.known(), company.goes_on(B, 1)):
            with pytest.raises(RuntimeUnavailable) as caught:
                await waiting
            assert caught.value.retry_after_ms == 200
        looking = asyncio.create_task(company.look())
        await asyncio.sleep(1)
        company.wake()
        await looking

    run(main())
