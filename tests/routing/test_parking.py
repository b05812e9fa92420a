"""Events wait for the one they name, bounded in time, and keep their order."""

from __future__ import annotations

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.envelope import AFTER, COUNTER, NO_DEADLINE, Envelope, envelope
from laneway.routing.parking import Chain, Parking, blocker_of

_CHAIN: Chain = ("t", "s", "p", 1, "pool")


def _event(counter: int, after: str = "", producer: str = "p", deadline: float = NO_DEADLINE) -> Envelope:
    return envelope(
        "K", producer=producer, counter=counter, tenant="t", session="s", lane=1, after=after, deadline=deadline
    )


class _Bench:
    def __init__(self) -> None:
        self.over: set[tuple[str, str, str, int]] = set()
        self.parking = Parking(lambda *key: key in self.over)

    def offer(self, env: Envelope, now: float = 0.0, chain: Chain = _CHAIN) -> bool:
        return self.parking.offer(chain, env, blocker_of(env), now)

    def end(self, producer: str, counter: int) -> list[int]:
        key = ("t", "s", producer, counter)
        self.over.add(key)
        return [env[COUNTER] for _, env in self.parking.over(key)]


def test_it_waits_for_the_one_it_names() -> None:
    """Parked until that one is over; not at all if it is over already. The mark is consumed."""
    bench = _Bench()
    assert bench.offer(_event(2, "q:7"))
    assert bench.end("q", 6) == []
    key = ("t", "s", "q", 7)
    bench.over.add(key)
    ((chain, env),) = bench.parking.over(key)
    assert (chain, env[COUNTER], env[AFTER]) == (_CHAIN, 2, "")
    assert not bench.offer(_event(3, "q:7"))
    assert bench.parking.count == 0


def test_what_follows_waits_behind_it() -> None:
    """FIFO of one producer, lane and pool holds; other chains pass."""
    bench = _Bench()
    assert bench.offer(_event(1, "q:1"))
    assert bench.offer(_event(2))
    assert bench.offer(_event(3, "q:2"))
    assert bench.offer(_event(4))
    assert not bench.offer(_event(5), chain=("t", "s", "p", 2, "pool"))
    assert bench.end("q", 1) == [1, 2]
    assert bench.parking.count == 2
    assert bench.end("q", 2) == [3, 4]
    assert not bench.offer(_event(6))


def test_waiting_ends_with_its_time() -> None:
    """After wait_s, or at its own deadline, an event goes on; so those that name each other end, too."""
    bench = _Bench()
    assert bench.parking.deadline() == inf
    bench.offer(_event(1, "p:2"), now=10.0)
    bench.offer(_event(2, "p:1"), now=11.0)
    bench.offer(_event(1, "q:1", deadline=12.0), now=11.0, chain=("t", "s", "r", 1, "pool"))
    assert bench.parking.deadline() == 12.0
    assert [env[COUNTER] for _, env in bench.parking.poll(12.0)] == [1]
    assert bench.parking.poll(14.9) == []
    assert [env[COUNTER] for _, env in bench.parking.poll(15.0)] == [1]
    assert [env[COUNTER] for _, env in bench.parking.poll(16.0)] == [2]
    assert (bench.parking.count, bench.parking.timeouts, bench.parking.deadline()) == (0, 3, inf)


def test_removing_lets_go_on_what_waited_behind() -> None:
    """A cancelled head frees its followers; a cancelled follower leaves the head waiting."""
    bench = _Bench()
    for env in (_event(1, "q:1"), _event(2), _event(3)):
        bench.offer(env)
    removed, released = bench.parking.remove(lambda _, env: env[COUNTER] == 2)
    assert ([env[COUNTER] for env in removed], released) == ([2], [])
    removed, released = bench.parking.remove(lambda _, env: env[COUNTER] == 1)
    assert ([env[COUNTER] for env in removed], [env[COUNTER] for _, env in released]) == ([1], [3])
    assert bench.end("q", 1) == []
    assert bench.parking.poll(100.0) == []


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("offer"), st.sampled_from("ab"), st.integers(0, 6)),
            st.tuples(st.just("end"), st.just(""), st.integers(1, 6)),
            st.tuples(st.just("wait"), st.just(""), st.integers(1, 4)),
            st.tuples(st.just("remove"), st.sampled_from("ab"), st.integers(0, 2)),
        ),
        max_size=60,
    )
)
def test_everything_leaves_once_in_order(steps: list[tuple[str, str, int]]) -> None:
    """Whatever happens: each event passes, is released or removed once; FIFO per chain; none waits 5 s."""
    bench, now, number = _Bench(), 0.0, 0
    left: dict[str, list[int]] = {"a": [], "b": []}
    inside: dict[int, float] = {}

    def leave(released: list[tuple[Chain, Envelope]]) -> None:
        for chain, env in released:
            left[chain[2]].append(env[COUNTER])
            del inside[env[COUNTER]]

    for step, producer, value in steps:
        if step == "offer":
            number += 1
            chain = ("t", "s", producer, 1, "pool")
            if bench.offer(_event(number, f"q:{value}" if value else "", producer), now, chain):
                inside[number] = now
            else:
                left[producer].append(number)
        elif step == "end":
            key = ("t", "s", "q", value)
            bench.over.add(key)
            leave(bench.parking.over(key))
        elif step == "wait":
            now += value
            leave(bench.parking.poll(now))
        else:
            removed, released = bench.parking.remove(
                lambda chain, env, producer=producer, value=value: chain[2] == producer and env[COUNTER] % 3 == value
            )
            for env in removed:
                del inside[env[COUNTER]]
            leave(released)
        assert bench.parking.count == len(inside)
        assert all(now - since <= 5.0 for since in inside.values())
        assert not inside or bench.parking.deadline() <= min(inside.values()) + 5.0
    leave(bench.parking.poll(now + 5.0))
    assert not inside
    assert all(order == sorted(order) for order in left.values())


def test_the_name_of_another_event() -> None:
    """producer:counter; anything else, and the event itself, names nothing."""
    assert blocker_of(_event(2, "a:b:7")) == ("t", "s", "a:b", 7)
    for after in ("", "x", ":1", "p:", "p:x", "p:-1", "p:2", "#1/2", "p:" + "9" * 21):
        assert blocker_of(_event(2, after)) is None


def test_traced_events_that_went_on_are_told_once() -> None:
    """Whoever follows them learns when they were queued; those without a trace are not listed."""
    bench = _Bench()
    traced = (*_event(2, "q:7")[:9], "a trace", *_event(2, "q:7")[10:])
    assert bench.offer(traced)
    assert bench.offer(_event(3))
    assert bench.parking.resumed() == []
    assert bench.end("q", 7) == [2, 3]
    assert [env[COUNTER] for env in bench.parking.resumed()] == [2]
    assert bench.parking.resumed() == []
