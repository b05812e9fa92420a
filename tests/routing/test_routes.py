"""Kind, then content, then key: which pool and which unit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.envelope import COUNTER, SESSION, Envelope, envelope
from laneway.routing.errors import ConfigError, LocalProtocolError, PeerProtocolError
from laneway.routing.lanes import Lane
from laneway.routing.routes import PoolQueues, PoolRoute, RouteTable, Row
from laneway.routing.scheduler import Scheduler


def _table() -> RouteTable:
    kinds = KindTable([Kind("WORK", Lane.NORMAL, direction=IN), Kind("NOTE", Lane.LOW, direction=IN, text=True)])
    return RouteTable(kinds, frozenset({"USER_MESSAGE"}), Scheduler)


def _event(counter: int = 1, kind: str = "WORK", **more: Any) -> Envelope:
    fields: dict[str, Any] = {"producer": "p", "tenant": "t", "session": "s", "lane": 2, "accepted": float(counter)}
    return envelope(kind, counter=counter, **{**fields, **more})


def _row(table: RouteTable, kind: str) -> Row:
    return table.resolve(kind)


def test_a_kind_is_one_row() -> None:
    """Lane, flags and pool of a kind are resolved once, and anew when a pool comes."""
    table = _table()
    table.add(PoolRoute("nlp", ("USER_MESSAGE", "NOTE")))
    row = _row(table, "USER_MESSAGE")
    assert (row.lane, row.text, row.pool) == (Lane.HIGH, True, table.pool("nlp"))
    assert table.rows["USER_MESSAGE"] is row
    note = _row(table, "NOTE")
    assert note.text
    table.add(PoolRoute("rest", ("WORK",)))
    assert not table.rows
    with pytest.raises(LocalProtocolError):
        table.pool("none")


def test_what_is_not_routed_is_an_error_that_says_why() -> None:
    """Unknown kinds, kinds without a pool, and what the dispatcher acts on itself."""
    table = _table()
    for kind, reason in (("NOPE", "UNKNOWN_KIND"), ("WORK", "UNKNOWN_KIND"), ("CANCEL", "CONTROL_KIND")):
        with pytest.raises(PeerProtocolError) as caught:
            table.resolve(kind)
        assert caught.value.reason == reason
    assert not table.rows


def test_conditions_are_asked_in_order_then_the_pool_without_one() -> None:
    """Content decides among pools of one kind; a condition that raises is a no."""
    table = _table()
    table.add(PoolRoute("broken", ("WORK",), accepts=lambda env: 1 // 0 > 0))
    table.add(PoolRoute("red", ("WORK",), accepts=lambda env: env[11].startswith(b"red")))
    table.add(PoolRoute("any-r", ("WORK",), accepts=lambda env: env[11].startswith(b"r")))
    row = _row(table, "WORK")
    assert row.choose(_event(body=b"blue")) is None
    assert table.untaken(_event()).reason == "UNKNOWN_KIND"
    table.add(PoolRoute("rest", ("WORK",)))
    row = _row(table, "WORK")
    names = []
    for body in (b"red", b"rose", b"blue"):
        pool = row.choose(_event(body=body))
        names.append(pool and pool.route.name)
    assert (row.pool, names) == (None, ["red", "any-r", "rest"])


def test_mistakes_in_the_set_up_are_named() -> None:
    """Names taken, kinds taken whole by two pools, unknown kinds and keys."""
    table = _table()
    table.add(PoolRoute("a", ("WORK",)))
    for name, kinds in (("a", ("NOTE",)), ("b", ("WORK",)), ("b", ("NOPE",))):
        with pytest.raises(ConfigError):
            table.add(PoolRoute(name, kinds))
    with pytest.raises(ConfigError):
        PoolRoute("b", ("NOTE",), keyed="user")
    table.add(PoolRoute("b", ("NOTE", "WORK"), accepts=lambda _: True))


@settings(deadline=None)
@given(
    keyed=st.sampled_from(["session", "entity", "run"]),
    events=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz"), st.sampled_from(["", "r", "q"]))),
    changes=st.lists(st.sets(st.sampled_from("1234"), max_size=4), min_size=1, max_size=4),
)
def test_events_of_one_key_share_a_cell_and_move_in_order(
    keyed: str, events: list[tuple[str, str, str]], changes: list[set[str]]
) -> None:
    """Whatever cells come and go: nothing is lost, a key is in one unit, and each session stays FIFO there."""
    queues = PoolQueues(PoolRoute("p", ("WORK",), keyed=keyed), Scheduler)
    made = [_event(n, session=s, entity=e, run=r) for n, (s, e, r) in enumerate(events, 1)]
    arrival: dict[int, int] = {}
    share = len(made) // len(changes) + 1
    for index, cells in enumerate(changes):
        for env in made[index * share : (index + 1) * share]:
            arrival[env[COUNTER]] = len(arrival)
            queues.place(env).push(env)
        queues.members(sorted(cells))
    assert queues.waiting == len(made)
    where: dict[str, set[int]] = {}
    field = {"session": 4, "entity": 6, "run": 5}[keyed]
    for number, unit in enumerate(queues.units()):
        taken = unit.take(1000, 0.0)
        for env in taken:
            where.setdefault(str(env[field]) or f"session {env[SESSION]}", set()).add(number)
        order: dict[str, list[int]] = {}
        for env in taken:
            order.setdefault(env[SESSION], []).append(arrival[env[COUNTER]])
        assert all(places == sorted(places) for places in order.values())
    assert all(len(units) == 1 for units in where.values())


def test_keys_spread_over_cells_and_most_stay_when_one_leaves() -> None:
    """About a quarter of the sessions per cell of four; only the leaver's move."""
    queues = PoolQueues(PoolRoute("p", ("WORK",), keyed="session"), Scheduler)
    queues.members(["1", "2", "3", "4"])
    events = [_event(n, session=f"s{n}") for n in range(400)]
    before = [queues.place(env) for env in events]
    assert all(70 <= count <= 130 for count in Counter(map(id, before)).values())
    leaver = queues.cells["2"]
    queues.members(["4", "3", "1"])
    assert all(queues.place(env) is unit for env, unit in zip(events, before, strict=True) if unit is not leaver)


def test_which_unit_a_worker_takes_from() -> None:
    """A keyed pool's worker names its cell; of one that left there is nothing; others share one queue."""
    queues = PoolQueues(PoolRoute("p", ("WORK",), keyed="session"), Scheduler)
    assert queues.unit(None) is queues.unit("1") is queues.shared
    queues.members(["1"])
    assert queues.unit("1") is queues.cells["1"]
    assert queues.unit("2") is None
    with pytest.raises(LocalProtocolError):
        queues.unit(None)
    plain = PoolQueues(PoolRoute("p", ("WORK",)), Scheduler)
    plain.members(["1", "2"])
    assert plain.unit("1") is plain.shared


def test_what_comes_back_waits_where_its_key_is_served_now() -> None:
    """Ahead of what waits there, in its own order."""
    table = _table()
    table.add(PoolRoute("p", ("WORK",), keyed="session"))
    pool = table.pool("p")
    pool.members(["1", "2"])
    events = [_event(n, session=f"s{n % 5}", accepted=float(n)) for n in range(1, 21)]
    for env in events[10:]:
        pool.place(env).push(env)
    pool.give_back(events[:10])
    for unit in pool.units():
        for name in "01234":
            own = [env[1] for env in unit.remove(lambda env, name=name: env[4] == f"s{name}")]  # type: ignore[misc]
            assert own in ([], [env[1] for env in events if env[4] == f"s{name}"])
    assert pool.waiting == 0
