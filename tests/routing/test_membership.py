"""Hosts are members while they beat."""

from __future__ import annotations

from laneway.routing.membership import FRONT, POOL, Member, View


def test_a_view_is_asked_by_role() -> None:
    """Fronts and pool hosts are told apart."""
    front, pool = Member("a", "1", FRONT, "127.0.0.1:1"), Member("b", "1", POOL, "127.0.0.1:2", pools=("nlp",))
    view = View(1, (front, pool), settled=True)
    assert view.of(FRONT) == [front]
    assert view.of(POOL) == [pool]
