"""The checker itself: it accepts a true history and finds each kind of lie in it."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable

import msgpack
import pytest

from laneway.actors.ports import Outcome
from laneway.routing.envelope import AFTER, BODY, KIND, LANE, PRODUCER, RUN, TENANT
from laneway.routing.inbox import SNAPSHOT, Received
from laneway.routing.items import Gap
from tests.simulation.faults import CALM
from tests.simulation.history import DATA, Ended, History, Segment, check
from tests.simulation.loop import run
from tests.simulation.process import kind_table
from tests.simulation.shape import Shape
from tests.simulation.world import World

KINDS = kind_table()


@pytest.fixture(scope="module")
def truth() -> History:
    """What everybody saw in a calm little world."""

    async def main() -> History:
        world = World(3, CALM, Shape(tenants=1, sessions=1, clients=2, events=24))
        report = await world.live()
        assert report.violations == []
        return world.history

    return run(main())


@pytest.fixture
def history(truth: History) -> History:
    """A copy to tell lies in."""
    return copy.deepcopy(truth)


def _segment(history: History) -> Segment:
    return max(history.segments, key=lambda segment: len(segment.items))


def _whole_data(history: History) -> list[int]:
    """Indices of items that are one whole data seq each, of no run that ended in an error: those may be void."""
    items = _segment(history).items
    erred = {item.envelope[RUN] for item in items if item.envelope[KIND] == "RUN_ERROR"}
    return [
        i
        for i, item in enumerate(items)
        if item.stream == DATA and item.whole and item.first == item.last and item.envelope[RUN] not in erred
    ]


def _replace(history: History, index: int, **fields: object) -> None:
    items = _segment(history).items
    items[index] = items[index]._replace(**fields)


def _changed(item: Received, index: int, value: object) -> tuple[object, ...]:
    return (*item.envelope[:index], value, *item.envelope[index + 1 :])


def test_the_truth_is_accepted(history: History) -> None:
    """A history without faults has no contradiction."""
    assert check(history, KINDS) == []


def _lose(history: History) -> None:
    del _segment(history).items[_whole_data(history)[3]]


def _lose_the_end(history: History) -> None:
    del _segment(history).items[_whole_data(history)[-1] :]


def _duplicate(history: History) -> None:
    index = _whole_data(history)[3]
    _segment(history).items.insert(index, _segment(history).items[index])


def _reorder(history: History) -> None:
    items, (one, other) = _segment(history).items, _whole_data(history)[3:5]
    items[one], items[other] = items[other], items[one]


def _foreign(history: History) -> None:
    index = _whole_data(history)[3]
    _replace(history, index, envelope=_changed(_segment(history).items[index], TENANT, "t9"))


def _garble(history: History) -> None:
    items = _segment(history).items
    index = next(i for i in _whole_data(history) if items[i].envelope[BODY])
    _replace(history, index, envelope=_changed(items[index], BODY, items[index].envelope[BODY][:-1]))


def _hide_text(history: History) -> None:
    items = _segment(history).items
    index = next(i for i in _whole_data(history) if items[i].envelope[KIND] == "TEXT_MESSAGE_CONTENT")
    weight = len(items[index].envelope[BODY]) + 16
    _replace(history, index, gap=Gap({"TEXT_MESSAGE_CONTENT": 1}, weight, "OVERLOAD"))


def _invent(history: History) -> None:
    last = _segment(history).items[_whole_data(history)[-1]]
    _segment(history).items.append(last._replace(first=last.last + 1000, last=last.last + 1000))


def _garble_a_snapshot(history: History) -> None:
    body = msgpack.packb({"messages": [{"id": "m", "role": "assistant", "content": "never said"}]})
    item = _segment(history).items[0]
    env = (*item.envelope[:BODY], body, *item.envelope[BODY + 1 :])
    _segment(history).items.insert(0, item._replace(stream=SNAPSHOT, envelope=env))


def _other_epoch(history: History) -> None:
    _segment(history).epoch = "another"


def _forget_the_end(history: History) -> None:
    for log in history.logs.values():
        stream = log.streams[DATA]
        index = next(i for i, entry in enumerate(stream) if entry[2][KIND] == "RUN_FINISHED")
        seq, position, env = stream[index]
        stream[index] = (seq, position, (*env[:KIND], "CUSTOM", *env[KIND + 1 :]))


def _end_twice(history: History) -> None:
    for log in history.logs.values():
        stream = log.streams[DATA]
        env = next(entry[2] for entry in stream if entry[2][KIND] == "RUN_FINISHED")
        stream.append((len(stream) + 1, stream[-1][1] + len(env[BODY]) + 16, env))


def _reuse_a_seq(history: History) -> None:
    for log in history.logs.values():
        log.streams[DATA].insert(5, log.streams[DATA][5])


def _never_answer(history: History) -> None:
    history.sent[0].status = ""


def _never_end(history: History) -> None:
    victim = next(sent for sent in history.sent if sent.env[KIND] == "ECHO")
    history.ended = [each for each in history.ended if each.env[:2] != victim.env[:2]]


def _leave_unfinished(history: History) -> None:
    next(iter(history.logs.values())).unfinished.append("c0:1")


def _start_twice(history: History) -> None:
    history.started.append(history.started[0])


def _end_once_more(history: History) -> None:
    history.ended.append(Ended(1, history.ended[0].env, Outcome("handled")))


def _start_out_of_order(history: History) -> None:
    places: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, each in enumerate(history.started):
        if not each.env[AFTER] and not each.env[PRODUCER].startswith("engine/"):
            places[each.pool, each.env[PRODUCER], each.env[LANE]].append(index)
    one, other = next(indices for indices in places.values() if len(indices) > 1)[:2]
    history.started[one], history.started[other] = history.started[other], history.started[one]


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        (_lose, "never got"),
        (_lose_the_end, "does not add up"),
        (_duplicate, "again"),
        (_reorder, "never got"),
        (_foreign, "got an event of t9"),
        (_garble, "the log has"),
        (_hide_text, "a GAP hides"),
        (_invent, "does not hold"),
        (_garble_a_snapshot, "snapshot at"),
        (_other_epoch, "epoch another"),
        (_forget_the_end, "has no end in the log"),
        (_end_twice, "2 RUN_FINISHED"),
        (_reuse_a_seq, "holds seq"),
        (_never_answer, "never answered"),
        (_never_end, "never ended"),
        (_leave_unfinished, "events that never ended"),
        (_start_twice, "was started 2 times"),
        (_end_once_more, "ended oftener"),
        (_start_out_of_order, "accepted later"),
    ],
)
def test_each_lie_is_found(history: History, lie: Callable[[History], None], found: str) -> None:
    """One event lost, doubled, swapped, foreign, changed or forgotten is named by the checker."""
    lie(history)
    assert any(found in violation for violation in check(history, KINDS))
