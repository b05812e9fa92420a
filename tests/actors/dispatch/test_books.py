"""Accepted is the sum of the endings and what is open, and everybody is told once."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.dispatch.books import Books
from laneway.actors.ports import Outcome
from laneway.routing.envelope import key_of
from laneway.routing.frame import frame_of

STATUSES = ["handled", "expired", "dropped", "cancelled", "failed", "dead"]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 10), st.sampled_from(STATUSES)), max_size=60))
def test_the_sum_holds_after_every_call(rig, script):
    """Entered once, closed once; closing what is not open changes nothing."""
    told, errors = [], []
    books = Books(errors.append)

    def on_done(ended):
        told.extend(env[1] for env, _ in ended)
        if told[-1] == 7:
            raise ValueError("callback")

    for enter, counter, status in script:
        env = rig.event(counter)
        if enter and key_of(env) not in books:
            books.enter([env], on_done)
        elif not enter:
            was_open = key_of(env) in books
            assert books.close([(env, Outcome(status))], 0.0) == was_open
        ended = sum(sum(lane.values()) for lane in books.ended)
        assert sum(books.accepted) == ended + len(books)
        assert len(told) == ended
    assert len(errors) == told.count(7)
    assert len(books.open()) == len(books)


def test_quiet_waits_for_the_last_and_gives_up_in_time(rig):
    """True when nothing is open any more, False when the time is over."""

    async def main():
        books = Books(lambda error: None)
        assert await books.quiet(0.0)
        for counter in (1, 2):
            env = rig.event(counter)
            books.enter([env], None)
            asyncio.get_running_loop().call_later(counter, books.close, [(env, Outcome("handled"))], 0.0)
        assert not await books.quiet(1.5)
        assert await books.quiet(1.5)

    rig.run(main())


def test_an_event_in_parts_is_over_with_its_last_part(rig):
    """It failed if one part did; told once."""
    books, told = Books(lambda error: None), []
    for counter, statuses in [(1, ["handled"] * 3), (2, ["handled", "failed", "handled"])]:
        env = rig.event(counter)
        books.enter([env], lambda ended: told.extend((env[1], outcome.status) for env, outcome in ended))
        for index, status in enumerate(statuses, 1):
            books.close([(rig.event(counter, after=f"#{index}/3"), Outcome(status))], 0.0)
    assert told == [(1, "handled"), (2, "failed")]
    assert len(books) == 0


def test_whoever_waits_for_several_of_a_list_is_told_once(rig):
    """In the order in which they ended; each event in one list; others are told apart."""
    books, told = Books(lambda error: None), []

    def mine(ended):
        told.append(("mine", [env[1] for env, _ in ended]))

    def theirs(ended):
        told.append(("theirs", [env[1] for env, _ in ended]))

    for counter in range(1, 6):
        env = rig.event(counter)
        books.enter([env], theirs if counter == 3 else mine)
    ended = [(rig.event(counter), Outcome("handled")) for counter in (2, 3, 1, 2, 9)]
    assert books.close(ended, 0.0) == 3
    assert told == [("mine", [2, 1]), ("theirs", [3])]
    assert len(books) == 2


def test_each_end_is_measured_in_its_lane(rig):
    """From the acceptance of the event to its end."""
    took = []

    def observe(lane):
        return lambda value, times=1: took.append((lane, value, times))

    books = Books(lambda error: None, took=[observe(lane) for lane in range(4)])
    env = rig.event(1, lane=2, accepted=3.0)
    books.enter([env], None)
    books.close([(env, Outcome("handled"))], 5.0)
    assert took == [(2, 2.0, 1)]
    rows = ((2, 2, 4.0), (3, 2, 4.0), (4, 1, 4.5), (5, 2, 4.0))
    more = [rig.event(number, lane=lane, accepted=at) for number, lane, at in rows]
    books.enter(more, None)
    books.close([(env, Outcome("handled")) for env in more], 5.0)
    assert took[1:] == [(2, 1.0, 3), (1, 0.5, 1)]


_LINES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cd"), st.integers(1, 12), st.integers(0, 2)))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cd"), st.integers(4, 9), st.booleans()), max_size=4),
    st.lists(_LINES, max_size=6),
    st.sampled_from(["", "#1/2", "#2/2"]),
)
def test_lists_and_frames_are_booked_as_one_by_one(rig, frames, ends, part):
    """Entered in frames and closed in lists, or one by one: the same books, and the same told to each."""
    told, took = ([], []), ([], [])

    def listener(place, name):
        return lambda ended: told[place].extend((name, env[1], outcome) for env, outcome in ended)

    def measure(place, lane):
        return lambda value, times=1: took[place].extend([(lane, value)] * times)

    books = [Books(lambda error: None, took=[measure(place, lane) for lane in range(4)]) for place in (0, 1)]
    mine = [(listener(place, "mine"), listener(place, "theirs")) for place in (0, 1)]
    newest, entered = {}, {}
    for number, (session, producer, count, other) in enumerate(frames):
        first = newest.get((session, producer), 0) + 1
        newest[session, producer] = first + count - 1
        envs = [
            rig.event(first + n, session=session, producer=producer, lane=1 + n % 3, accepted=number)
            for n in range(count)
        ]
        entered.update((key_of(env), env) for env in envs)
        frame = frame_of(envs)
        assert not books[0].meets(frame)
        books[0].enter_frame(frame, mine[0][other])
        assert books[0].meets(frame)
        for env in envs:
            books[1].enter([env], mine[1][other])
    for round_, rows in enumerate(ends):
        ended = []
        for session, producer, counter, status in rows:
            env = rig.event(counter, session=session, producer=producer)
            env = entered.get(key_of(env), env)
            if counter == 3:
                env = (*env[:10], part, *env[11:])
            ended.append((env, Outcome(STATUSES[status])))
        closed = books[0].close(ended, 10.0 + round_)
        assert closed == sum(books[1].close([pair], 10.0 + round_) for pair in ended)
        assert sorted(told[0]) == sorted(told[1])
        assert sorted(took[0]) == sorted(took[1])
    assert (books[0].ended, books[0].accepted, len(books[0])) == (books[1].ended, books[1].accepted, len(books[1]))
    assert books[0].open() == books[1].open()
    assert set(books[0].lines) == {(env[3], env[4], env[0]) for env in books[0].open()}
