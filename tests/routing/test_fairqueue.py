"""One lane: fair among tenants and sessions, and cheap however many there are."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.envelope import ACCEPTED, BODY, COUNTER, SESSION, TENANT, Envelope, cost_bytes, envelope
from laneway.routing.fairqueue import MAX_DEBT_BYTES, FairQueue

_UNLIMITED = 1 << 62


def _event(tenant: str, session: str, number: int, size: int = 0, deadline: float = 9.0) -> Envelope:
    return envelope(
        "K",
        producer="p",
        counter=number,
        tenant=tenant,
        session=session,
        lane=2,
        deadline=deadline,
        body=bytes(size),
    )


def _queue(events: list[Envelope]) -> FairQueue:
    queue = FairQueue()
    queue.arrivals += events
    queue.sort()
    return queue


_EVENTS = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"), st.sampled_from([0, 50, 5_000, 300_000]), st.booleans()),
    max_size=60,
)


@settings(deadline=None)
@given(events=_EVENTS, visits=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 20_000)), max_size=40))
def test_every_event_leaves_once_in_order(
    events: list[tuple[str, str, int, bool]], visits: list[tuple[int, int]]
) -> None:
    """However it is visited: room is kept, the budget passed by at most one event, FIFO per session."""
    made = [_event(t, s, n, size, 1.0 if late else 9.0) for n, (t, s, size, late) in enumerate(events, 1)]
    queue, seen = _queue(made), list[Envelope]()
    for room, budget in [*visits, (len(made) + 1, _UNLIMITED)]:
        out: list[Envelope] = []
        expired: list[Envelope] = []
        spent = queue.serve(room, budget, 5.0, out, expired)
        assert spent == sum(map(cost_bytes, out))
        assert len(out) <= room
        assert spent < budget + (cost_bytes(out[-1]) if out else 0)
        assert len(out) == room or spent >= budget or not len(queue)
        seen += sorted([*out, *expired], key=lambda env: env[COUNTER])
    assert sorted(seen) == sorted(made)
    assert len(queue) == 0
    for tenant, session in {(env[TENANT], env[SESSION]) for env in made}:
        order = [env[COUNTER] for env in seen if (env[TENANT], env[SESSION]) == (tenant, session)]
        assert order == sorted(order)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 16_384), min_size=2, max_size=6), room=st.integers(1, 20))
def test_backlogged_sessions_stay_level(sizes: list[int], room: int) -> None:
    """At every moment two backlogged sessions are at most a quantum and one event apart."""
    made = [_event("t", f"s{index}", n, size) for index, size in enumerate(sizes) for n in range(1, 200)]
    queue, served = _queue(made), Counter[str]()
    for _ in range(150 // room):
        out: list[Envelope] = []
        queue.serve(room, _UNLIMITED, 0.0, out, [])
        for env in out:
            served[env[SESSION]] += cost_bytes(env)
        totals = [served[f"s{index}"] for index in range(len(sizes))]
        assert max(totals) - min(totals) <= 2 * (1_024 + 200 + max(sizes))


def test_a_debtor_that_ran_empty_pays_before_it_is_served_again() -> None:
    """After a body far beyond the forgiven part, the next event of that session waits for the debt."""
    queue = _queue([_event("t", "big", 1, 1_000_000), *(_event("t", "small", n, 824) for n in range(1, 200))])
    out: list[Envelope] = []
    while not any(len(env[BODY]) > 824 for env in out):
        queue.serve(1, _UNLIMITED, 0.0, out, [])
    queue.arrivals.append(_event("t", "big", 2))
    queue.sort()
    out.clear()
    while not any(env[SESSION] == "big" for env in out):
        queue.serve(1, _UNLIMITED, 0.0, out, [])
    assert MAX_DEBT_BYTES // 1_024 - 1 <= len(out) <= MAX_DEBT_BYTES // 1_024 + 2


def test_remove_and_clear() -> None:
    """Only what matches leaves, from the named session alone if one is named."""
    made = [_event("t", session, n) for n in range(1, 5) for session in "ab"]
    queue = _queue(made)
    assert [env[COUNTER] for env in queue.remove(lambda env: env[COUNTER] > 2, "t", "a")] == [3, 4]
    assert queue.remove(lambda _: True, "t", "nobody") == []
    assert queue.remove(lambda _: True, "nobody", "a") == []
    assert len(queue.remove(lambda env: env[COUNTER] == 1, None, None)) == 2
    assert sorted(queue) == sorted(queue.clear())
    assert len(queue) == 0


def test_what_is_given_back_goes_to_its_place() -> None:
    """By the time of acceptance, also among what was given back before; the list of arrivals stays."""
    made = {n: (*_event("t", "a", n)[:-1], float(n)) for n in range(1, 7)}
    queue = _queue([made[5], _event("t", "b", 1)])
    arrivals = queue.arrivals
    arrivals.append(made[6])
    for back in ([made[2], made[4]], [made[1], made[3]]):
        queue.give_back(back)
    assert queue.arrivals is arrivals
    queue.sort()
    out: list[Envelope] = []
    queue.serve(9, _UNLIMITED, 0.0, out, [])
    assert [env[COUNTER] for env in out if env[SESSION] == "a"] == [1, 2, 3, 4, 5, 6]
    assert len(out) == 7


def _accepted(session: str, at: float) -> Envelope:
    return (*_event("t", session, 1)[:ACCEPTED], at)  # type: ignore[return-value]


def test_the_longest_wait_is_seen_without_looking_at_everything() -> None:
    """Arrivals count, and so do sessions; of a thousand sessions only the next few in turn are asked."""
    queue = FairQueue()
    assert queue.oldest() is None
    queue.arrivals += [_accepted("s", 3.0), _accepted("s", 4.0)]
    assert queue.oldest() == 3.0
    queue.sort()
    queue.arrivals.append(_accepted("t", 5.0))
    assert queue.oldest() == 3.0
    crowd = [_accepted(f"s{number}", float(number)) for number in range(1_000)]
    many = _queue(crowd)
    assert many.oldest() == 0.0
    out: list[Envelope] = []
    many.serve(500, _UNLIMITED, 0.0, out, [])
    assert many.oldest() == min(env[ACCEPTED] for env in many)
