"""Sessions that are not at home any more: forgotten by others once nothing would be lost, and not reopened if taken."""

from __future__ import annotations

from laneway.actors.directory.departures import Departures


def test_it_is_asked_until_nothing_is_remembered() -> None:
    """A session with something left is asked for again; one that came back is not asked for."""
    gone, busy = Departures(10), {("t", "busy")}
    asked: list[tuple[str, str]] = []

    def forget(tenant: str, session: str) -> bool:
        asked.append((tenant, session))
        return (tenant, session) not in busy

    for name in ("idle", "busy", "back"):
        gone.left(("t", name))
    gone.back(("t", "back"))
    gone.sweep(forget)
    assert (asked, len(gone)) == ([("t", "idle"), ("t", "busy")], 1)
    busy.clear()
    gone.sweep(forget)
    assert (asked[2:], len(gone)) == ([("t", "busy")], 0)


def test_those_of_other_hosts_are_bounded_and_may_come_back() -> None:
    """The longest gone is forgotten first; one that is at home here again is nobody else's."""
    gone = Departures(2)
    for name in ("a", "b", "c"):
        gone.lost(("t", name))
    assert [gone.taken(("t", name)) for name in ("a", "b", "c")] == [False, True, True]
    gone.back(("t", "b"))
    assert not gone.taken(("t", "b"))
