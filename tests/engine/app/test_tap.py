"""The ring behind `laneway tail`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.engine.app.tap import Tap, TapFilter
from laneway.engine.frames import encode_call
from laneway.routing.envelope import Envelope, envelope

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ALL = TapFilter()


def _event(kind: str = "A", session: str = "s1", **more: Any) -> Envelope:
    return envelope(kind, **{"producer": "p", "counter": 1, "tenant": "t", "session": session, "lane": 1, **more})


def _numbers(page: dict[str, Any]) -> list[int]:
    return [row["n"] for row in page["events"]]


def test_rows_are_numbered_and_without_bodies() -> None:
    """A reader asks for what came after what it has seen."""
    tap = Tap(lambda: 7.0, "e1")
    for _ in range(4):
        tap("in", (_event(body=b"xyz", trace=TRACE),))
    page = tap.page(ALL)
    assert (page["last"], page["engine"], page["missed"], page["more"]) == (4, "e1", 0, False)
    assert _numbers(page) == [1, 2, 3, 4]
    row = page["events"][0]
    assert (row["bytes"], row["lane"], row["trace_id"]) == (3, "high", TRACE[3:35])
    assert b"xyz" not in row.values()
    assert _numbers(tap.page(ALL, 1)) == [2, 3, 4]
    assert tap.page(ALL, 4)["events"] == []


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"kinds": ["A"]}, [1]),
        ({"kinds": ["A", "TEXT_MESSAGE_END"]}, [1, 3]),
        ({"kinds": ["TEXT_*"]}, [2, 3]),
        ({"kinds": ["*"]}, [1, 2, 3, 4]),
        ({"sessions": ["s2"]}, [2, 4]),
        ({"tenants": ["u"]}, [4]),
        ({"runs": ["r1"]}, [3]),
        ({"lanes": ["critical", "low"]}, [3, 4]),
        ({"direction": "out"}, [2, 4]),
        ({"min_bytes": 10}, [2]),
        ({"sessions": ["s2"], "direction": "out", "lanes": ["low"]}, [4]),
        ({"kinds": ["a"]}, []),
    ],
)
def test_filters(wanted: dict[str, Any], numbers: list[int]) -> None:
    """Any of one field, all fields together."""
    tap = Tap(lambda: 7.0)
    tap("in", (_event(),))
    tap("out", (_event("TEXT_MESSAGE_CONTENT", "s2", body=b"0123456789"),))
    tap("in", (_event("TEXT_MESSAGE_END", run="r1", lane=0),))
    tap("out", (_event("B", "s2", tenant="u", lane=3),))
    filtered = TapFilter.read(wanted)
    assert _numbers(tap.page(filtered)) == numbers
    assert _numbers(tap.page(filtered, 0)) == numbers


def _all(tap: Tap, wanted: TapFilter, after: int | None) -> tuple[list[int], int]:
    """Read page after page; returns the numbers seen and how many were missed."""
    seen, missed, more = [], 0, True
    while more:
        page = tap.page(wanted, after)
        assert len(encode_call({"result": page})) < 65_536
        seen += _numbers(page)
        missed += page["missed"]
        after, more = page["last"], page["more"]
    assert tap.page(wanted, after)["events"] == []
    return seen, missed


@pytest.mark.parametrize("name", ["s", "s" * 64])
def test_pages_go_on_without_a_gap(name: str) -> None:
    """What does not fit one page comes with the next, filtered or not; a page fits a frame's header."""
    tap = Tap(lambda: 1e9 + 0.123456)
    for number in range(1_000):
        tap("in", (_event("A" if number % 2 else "B", name, run=name, entity=name * 2, producer=name, trace=TRACE),))
    assert _all(tap, ALL, 0) == (list(range(1, 1_001)), 0)
    assert _all(tap, TapFilter(kinds=("A",)), 0) == (list(range(2, 1_001, 2)), 0)


def test_a_beginning_shows_the_newest_500() -> None:
    """Of those that are wanted."""
    tap = Tap(lambda: 0.0)
    assert _all(tap, ALL, None) == ([], 0)
    for number in range(2_400):
        tap("in", (_event("A" if number % 2 else "B"),))
    assert _all(tap, ALL, None) == (list(range(1_901, 2_401)), 0)
    assert _all(tap, TapFilter(kinds=("A",)), None) == (list(range(1_402, 2_401, 2)), 0)
    assert _all(tap, TapFilter(kinds=("C",)), None) == ([], 0)


def test_an_overtaken_reader_is_told_how_many_it_missed() -> None:
    """The ring keeps 2,000; a reader that had seen 100 missed 400 of the 2,500."""
    tap = Tap(lambda: 0.0)
    for _ in range(2_500):
        tap("out", (_event(),))
    assert _all(tap, ALL, 100) == (list(range(501, 2_501)), 400)
    assert tap.page(ALL, 500)["missed"] == 0


def test_numbers_of_another_engine_mean_nothing_here() -> None:
    """After a restart reading begins at the oldest that is kept."""
    tap = Tap(lambda: 0.0, "e2")
    for _ in range(3):
        tap("in", (_event(),))
    assert _numbers(tap.page(ALL, 2, "e1")) == [1, 2, 3]
    assert _numbers(tap.page(ALL, 2, "e2")) == [3]
    assert tap.page(ALL, 900, "e2")["events"] == []


@given(st.lists(st.tuples(st.integers(0, 2_500), st.integers(0, 3_000)), min_size=1, max_size=5), st.integers(0, 5_000))
@settings(max_examples=40)
def test_lists_of_any_length_read_as_their_events_one_by_one(lists: list[tuple[int, int]], after: int) -> None:
    """However they came, large and small: the newest 2,000 are kept, with their numbers and sizes, and no body."""
    together, single = Tap(lambda: 7.0), Tap(lambda: 7.0)
    for number, (count, size) in enumerate(lists):
        envs = [_event(session=f"s{number}", counter=place, body=bytes(place % (size + 1))) for place in range(count)]
        together("in", envs)
        for env in envs:
            single("in", (env,))
    for begin in (None, after):
        assert together.page(ALL, begin) == single.page(ALL, begin)
    held = sum(len(env[11]) for note in together._notes for env in note[3] if len(env) > 11)
    assert held <= 1_024 * (2_000 + 2_500)
