"""What is pending is there once, by its key, until it is over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.sessions.pending import Pending


def test_what_is_pending_is_found_by_its_key(rig):
    """As in any mapping; the events of one producer in the order of their acceptance."""
    pending = Pending()
    envs = [rig.event(counter, producer="a", accepted=1.0) for counter in (3, 4, 9)]
    late = rig.event(1, producer="b", accepted=2.0)
    pending.hold([late])
    pending.hold(envs)
    assert (len(pending), bool(pending), bool(Pending())) == (4, True, False)
    assert list(pending) == [("a", 3), ("a", 4), ("a", 9), ("b", 1)]
    assert list(pending.values()) == [*envs, late]
    assert pending["b", 1] is late
    assert ("a", 4) in pending
    assert ("a", 5) not in pending
    assert ("c", 4) not in pending
    assert "a" not in pending
    assert pending.among([late, rig.event(2, producer="b"), envs[1]]) == [("b", 1), ("a", 4)]


_EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9)), max_size=12)


@given(st.lists(st.tuples(st.booleans(), _EVENTS), max_size=8))
def test_each_is_over_once(rig, script):
    """In lists of one producer's or of several, with what was never there among them, in the order told."""
    pending, model = Pending(), {}
    for number, (holds, keys) in enumerate(script):
        events = [rig.event(counter, producer=producer, accepted=number) for producer, counter in keys]
        if holds:
            for producer in "ab":
                own = [env for env in {env[:2]: env for env in events}.values() if env[0] == producer]
                if own:
                    pending.hold(own)
                    model.update((env[:2], env) for env in own)
        else:
            expected = [env[:2] for env in events if model.pop(env[:2], None) is not None]
            assert pending.end(events) == expected
        assert dict(pending) == model
        assert len(pending) == len(model)


def test_one_can_be_dropped(rig):
    """Once."""
    pending = Pending()
    pending.hold([rig.event(1, producer="a"), rig.event(2, producer="a")])
    assert [pending.drop("a", 1), pending.drop("a", 1), pending.drop("b", 2)] == [True, False, False]
    assert list(pending) == [("a", 2)]
