"""Columns: what single events say, said of many at once; each rule with its exact reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.engine.codec import read_event
from laneway.engine.columns import COLUMNS, Columns
from laneway.engine.limits import Limits
from laneway.routing.classify import Kind, KindTable
from laneway.routing.envelope import ACCEPTED, DEADLINE, NO_DEADLINE, TRACE, Envelope, envelope
from laneway.routing.errors import PeerProtocolError
from laneway.routing.lanes import Lane

KINDS = KindTable([Kind("orders.placed", Lane.NORMAL)])
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW = 50.0

few_ids = st.sampled_from(["a", "b.c", "x" * 64])
events = st.builds(
    lambda **fields: envelope(**fields),
    kind=st.sampled_from(["USER_MESSAGE", "TEXT_MESSAGE_CONTENT", "orders.placed"]),
    producer=few_ids | st.just("engine/run-1"),
    counter=st.integers(1, 3) | st.integers(1, 2**63 - 1),
    tenant=few_ids | st.just(""),
    session=few_ids | st.just(""),
    lane=st.integers(0, 3),
    run=few_ids | st.just(""),
    entity=few_ids | st.just("") | st.just("e" * 128),
    deadline=st.just(NO_DEADLINE) | st.integers(50, 10_000).map(float),
    trace=st.just("") | st.just(TRACEPARENT),
    after=few_ids | st.just(""),
    body=st.binary(max_size=30),
)
uniform = st.builds(
    lambda env, count: [(env[0], env[1] % 2**60 + number, *env[2:]) for number in range(count)],
    events,
    st.integers(0, 70),
)
"""As most frames are: one numbering, all else the same."""


def columns(count: int = 2, **changes: Any) -> list[Any]:
    """Good columns with some replaced."""
    fields: dict[str, Any] = {
        "producer": "p",
        "counter": 1,
        "kind": 5,
        "tenant": "t",
        "session": "s",
        "run": "",
        "entity": "",
        "lane": 1,
        "remaining": None,
        "trace": "",
        "after": "",
        "bodies": [b"hi"] * count,
    }
    return list((fields | changes).values())


def reason_of(call: Callable[[], object]) -> str | None:
    """The reason of a short refusal, or None if there was none."""
    try:
        call()
    except PeerProtocolError as error:
        return error.reason if len(str(error)) < 400 else "A LONG STORY"
    return None


def plain(column: Any) -> Any:
    """As msgpack gives it back."""
    return list(column) if isinstance(column, tuple) else column


def there_and_back(given_: list[Envelope]) -> list[Envelope]:
    made = Columns(KINDS)
    return made.unpack([plain(column) for column in made.pack(given_, NOW)], NOW)


@settings(max_examples=300)
@given(st.lists(events, max_size=20) | uniform)
def test_there_and_back(sent: list[Envelope]) -> None:
    """Any events come back as they were, in order; only ACCEPTED is the receiver's."""
    back = there_and_back(sent)
    assert [env[:ACCEPTED] for env in back] == [env[:ACCEPTED] for env in sent]
    assert all(env[ACCEPTED] == NOW for env in back)


def test_what_all_share_travels_once() -> None:
    """Equal values are one, a numbering without gaps is its first number, and only bodies are always many."""
    many = [envelope("USER_MESSAGE", producer="p", counter=7 + n, tenant="", session="", lane=1) for n in range(3)]
    assert list(Columns(KINDS).pack(many, NOW)) == ["p", 7, 5, "", "", "", "", 1, None, "", "", (b"",) * 3]
    gap = Columns(KINDS).pack([many[0], many[2]], NOW)
    assert gap[1] == (7, 9)


values = (
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats(0, 3) | st.sampled_from(["", "a", "a\nb", "..", b""])
)
fields = st.tuples(*[values | st.just(good) for good in columns()[:-1]], st.binary(max_size=2) | values)


@settings(max_examples=500)
@given(st.lists(fields, min_size=2, max_size=4), st.sets(st.integers(0, COLUMNS - 2)))
def test_columns_are_taken_exactly_when_their_events_are(rows: list[Any], shared: set[int]) -> None:
    """Whatever stands in them: the same events as one by one, or a refusal where one of them is refused."""
    if 1 in shared:
        shared.remove(1)  # one counter is the first of a numbering
    rows = [tuple(rows[0][at] if at in shared else value for at, value in enumerate(row)) for row in rows]
    singly: list[Envelope] | None = None
    if all(reason_of(lambda row=row: read_event(row, NOW, KINDS)) is None for row in rows):  # type: ignore[misc]
        singly = [read_event(row, NOW, KINDS) for row in rows]
    given_ = [rows[0][at] if at in shared else list(column) for at, column in enumerate(zip(*rows, strict=True))]
    made = Columns(KINDS)
    if singly is None:
        assert reason_of(lambda: made.unpack(given_, NOW))
    else:
        assert made.unpack(given_, NOW) == singly


@settings(max_examples=300)
@given(st.lists(values | st.lists(values, max_size=4), max_size=14))
def test_any_columns_give_events_or_a_typed_error(given_: list[Any]) -> None:
    """Whatever msgpack may hold of scalars and arrays of them."""
    assert reason_of(lambda: Columns(KINDS).unpack(given_, NOW)) != ""


BAD = [
    ("11 columns", columns()[1:], "BAD_TYPE"),
    ("13 columns", [*columns(), ""], "BAD_TYPE"),
    ("no bodies", columns(0), "BAD_TYPE"),
    ("bodies not an array", columns(bodies=b"hi"), "BAD_TYPE"),
    ("a body is a str", columns(bodies=[b"a", "b"]), "BAD_TYPE"),
    ("a body is an array", columns(bodies=[b"a", []]), "BAD_TYPE"),
    ("a map", columns(run={}), "BAD_TYPE"),
    ("an empty column", columns(run=[]), "BAD_TYPE"),
    *(
        (f"{name} of 3", columns(**{name: [value] * 3}), "BAD_TYPE")
        for name, value in {
            "producer": "p",
            "counter": 1,
            "kind": 5,
            "tenant": "",
            "session": "",
            "run": "",
            "entity": "",
            "lane": 1,
            "remaining": None,
            "trace": "",
            "after": "",
        }.items()
    ),
    ("a column of arrays", columns(run=[["a"], ["b"]]), "BAD_TYPE"),
    ("a column of maps", columns(entity=[{}, {}]), "BAD_TYPE"),
    ("a column of numbers", columns(session=[1, 2]), "BAD_TYPE"),
    ("nil in a column", columns(run=["a", None]), "BAD_TYPE"),
    ("kind is bool", columns(kind=True), "BAD_TYPE"),
    ("a kind is bool", columns(kind=[5, True]), "BAD_TYPE"),
    ("a kind is float", columns(kind=[5, 5.0]), "BAD_TYPE"),
    ("an unknown kind", columns(kind=[5, "nope"]), "UNKNOWN_KIND"),
    ("an unknown number", columns(kind=9999), "UNKNOWN_KIND"),
    ("counter 0", columns(counter=0), "NUMBER_RANGE"),
    ("a counter negative", columns(counter=[1, -1]), "NUMBER_RANGE"),
    ("counters beyond 2^63-1", columns(counter=2**63 - 1), "NUMBER_RANGE"),
    ("a counter is bool", columns(counter=[1, True]), "BAD_TYPE"),
    ("a counter is float", columns(counter=[1, 2.0]), "BAD_TYPE"),
    ("counter is nil", columns(counter=None), "BAD_TYPE"),
    ("lane 4", columns(lane=[0, 4]), "NUMBER_RANGE"),
    ("lane -1", columns(lane=-1), "NUMBER_RANGE"),
    ("a lane is bool", columns(lane=[1, True]), "BAD_TYPE"),
    ("remaining negative", columns(remaining=[1, -1]), "NUMBER_RANGE"),
    ("remaining beyond", columns(remaining=2**63), "NUMBER_RANGE"),
    ("remaining float", columns(remaining=[None, 1.5]), "BAD_TYPE"),
    ("a trace is nil", columns(trace=["", None]), "BAD_TYPE"),
    ("trace is bin", columns(trace=b""), "BAD_TYPE"),
    ("no producer", columns(producer=["p", ""]), "BAD_ID"),
    ("dots", columns(producer=["p", ".."]), "BAD_ID"),
    ("dots among others", columns(session=["..", "a"]), "BAD_ID"),
    ("id of 65", columns(run=["r" * 65, "r"]), "BAD_ID"),
    ("entity of 129", columns(entity=["", "e" * 129]), "BAD_ID"),
    ("a newline", columns(tenant=["a\nb", "a"]), "BAD_ID"),
    ("newlines that make up for one another", columns(tenant="a\nb", session="", run=["", "x"]), "BAD_ID"),
    ("a trailing newline", columns(after=["a\n", "a"]), "BAD_ID"),
    ("a trailing newline for all", columns(after="a\n"), "BAD_ID"),
    ("NUL", columns(session=["a", "a\0"]), "BAD_ID"),
    ("confusable", columns(session=["a", "\u0430dmin"]), "BAD_ID"),
]


@pytest.mark.parametrize(("given_", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_columns(given_: list[Any], reason: str) -> None:
    """Wrong lengths, types, numbers and ids of a whole column."""
    made = Columns(KINDS)
    assert reason_of(lambda: made.unpack(given_, NOW)) == reason
    assert len(made.unpack(columns(), NOW)) == 2


def test_limits_of_items_and_bodies() -> None:
    """One item or byte too many is refused; the limit itself passes."""
    made = Columns(KINDS, Limits(items=3, body_bytes=4))
    assert len(made.unpack(columns(3), NOW)) == 3
    assert reason_of(lambda: made.unpack(columns(4), NOW)) == "TOO_MANY_ITEMS"
    assert made.unpack(columns(bodies=[b"", b"four"]), NOW)
    assert reason_of(lambda: made.unpack(columns(bodies=[b"", b"fives"]), NOW)) == "TOO_LARGE"


def test_a_column_of_one_is_as_good_as_its_value() -> None:
    """A sender may write either for a single event."""
    single = columns(1)
    arrays = [column if at == COLUMNS - 1 else [column] for at, column in enumerate(single)]
    assert Columns(KINDS).unpack(arrays, NOW) == Columns(KINDS).unpack(single, NOW)


def test_unusable_traces_are_dropped() -> None:
    """The others of the frame keep theirs."""
    got = Columns(KINDS).unpack(columns(3, trace=["x" * 55, TRACEPARENT, ""]), NOW)
    assert [env[TRACE] for env in got] == ["", TRACEPARENT, ""]


def test_deadlines_travel_as_remaining_time() -> None:
    """What is left here is left there; an expired one has 0 ms, and none stays none."""
    at = [NO_DEADLINE, 11.5, 9.0]
    sent = [
        envelope("LOG", producer="p", counter=n, tenant="", session="", lane=3, deadline=at[n - 1]) for n in (1, 2, 3)
    ]
    packed = [plain(column) for column in Columns(KINDS).pack(sent, 10.0)]
    assert [env[DEADLINE] for env in Columns(KINDS).unpack(packed, 1000.0)] == [NO_DEADLINE, 1001.5, 1000.0]


def test_kinds_are_refused_while_they_are_not_there_and_taken_once_they_are() -> None:
    """A kind that is added later is known from then on, both ways."""
    live = KindTable()
    made = Columns(live)
    sent = [envelope("late", producer="p", counter=n, tenant="", session="", lane=2) for n in (1, 2)]
    assert reason_of(lambda: made.pack(sent, NOW)) == "UNKNOWN_KIND"
    assert reason_of(lambda: made.unpack(columns(kind=["late", 5]), NOW)) == "UNKNOWN_KIND"
    live.add(Kind("late", Lane.NORMAL))
    assert made.pack(sent, NOW)[2] == "late"
    assert [env[2] for env in made.unpack(columns(kind=["late", 5]), NOW)] == ["late", "USER_MESSAGE"]
