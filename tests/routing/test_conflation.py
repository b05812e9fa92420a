"""State that a later event makes unnecessary is not sent, and nobody can tell by the state."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import jsonpointer
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.conflation import STATE_KINDS, Conflation
from laneway.routing.envelope import BODY, KIND, Envelope, envelope
from laneway.routing.inbox import Inbox
from laneway.routing.items import plan_items
from laneway.routing.replay import Numbered

Event = tuple[str, dict[str, Any]]
NO_END = float("inf")


def make(kind: str, fields: dict[str, Any], *, run: str = "r", entity: str = "") -> Envelope:
    body = msgpack.packb(fields)
    return envelope(kind, producer="e", counter=1, tenant="t", session="s", lane=2, run=run, entity=entity, body=body)


def numbered(events: list[Envelope]) -> list[Numbered]:
    entries: list[Numbered] = []
    position = 0
    for seq, env in enumerate(events, 1):
        position += len(env[BODY]) + 16
        entries.append((seq, position, env))
    return entries


def patch(*rows: tuple[Any, ...]) -> Event:
    """(op, path, value or from) -> STATE_DELTA."""
    named = {"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from"}
    delta = [{"op": op, "path": path, **({named[op]: rest[0]} if rest else {})} for op, path, *rest in rows]
    return "STATE_DELTA", {"delta": delta}


def snapshot(state: Any) -> Event:
    return "STATE_SNAPSHOT", {"snapshot": state}


def after(state: Any, events: list[tuple[str, dict[str, Any]]]) -> Any:
    """The state of a client that was told these events: a patch is atomic, one that does not apply is skipped."""
    for kind, fields in events:
        if kind == "STATE_SNAPSHOT":
            state = copy.deepcopy(fields["snapshot"])
            continue
        try:
            state = jsonpatch.apply_patch(state, fields["delta"])
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError):
            continue
    return state


def sent(events: list[Event], **about: str) -> list[Any]:
    """What is sent of events that all wait: for each its delta or snapshot."""
    entries = numbered([make(*event, **about) for event in events])
    return [told(env)[1] for env in frame(entries, 0, 64)[0]]


def told(env: Envelope) -> Event:
    return env[KIND], msgpack.unpackb(env[BODY])


def frame(entries: list[Numbered], position: int, items: int, room: int = 65_536) -> tuple[list[Envelope], Any]:
    batch = plan_items(
        entries, position, 0, frozenset(), grant=NO_END, chunk_chars=200, max_items=items, room_bytes=room
    )
    return batch.envelopes, batch


TOKENS = st.sampled_from(["a", "b", "0", "1", "-", "01", "~1", "~"])
PATHS = st.one_of(
    st.sampled_from(["/a", "/b", "/a/b", "/list/0", "/list/1", "/list/-", ""]),
    st.lists(TOKENS, max_size=3).map(lambda tokens: "".join("/" + token for token in tokens)),
)
VALUES = st.sampled_from([0, 1, "x", [1, 2], {"a": 1}, {"a": {"b": 2}, "list": [0, 1]}, None])
ROWS = st.one_of(
    st.tuples(st.sampled_from(["replace", "replace", "add"]), PATHS, VALUES),
    st.tuples(st.just("replace"), st.sampled_from(["/a", "/b", "/list/0"]), VALUES),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.sampled_from(["move", "copy"]), PATHS, PATHS),
    st.tuples(st.just("test"), PATHS, VALUES),
)
SETS = st.lists(st.tuples(st.just("replace"), st.sampled_from(["/a", "/b", "/c"]), VALUES), min_size=1, max_size=2)
EVENTS = st.one_of(
    SETS.map(lambda rows: patch(*rows)),
    SETS.map(lambda rows: patch(*rows)),
    st.lists(ROWS, max_size=3).map(lambda rows: patch(*rows)),
    VALUES.map(snapshot),
)


@settings(deadline=None, max_examples=400)
@given(VALUES, st.lists(EVENTS, max_size=14), st.integers(1, 9), st.sampled_from([40, 65_536]))
def test_the_state_is_the_same_as_if_all_had_been_told(state, events, items, room):
    """Any patches and snapshots, patches that do not apply among them, in frames of any size: the client's state,
    position and cursor end where they would have; what it was not told is counted."""
    entries = numbered([make(*event) for event in events])
    inbox = Inbox()
    inbox.receive({"welcome": {"cursor": ["e", 0, 0], "resume": "new", "position": 0, "grant": 65_536}}, [], 0.0)
    given_out: list[Event] = []
    conflated = position = at = 0
    while at < len(entries):
        envelopes, batch = frame(entries[at:], position, items, room)
        header = {**batch.header(1), "stream": 1}
        given_out += [told(received.envelope) for received in inbox.receive(header, envelopes, 0.0)]
        conflated, position, at = conflated + batch.conflated, batch.position, batch.next_seq - 1
        assert inbox.position == position
    assert inbox.cursor.data == len(events)
    assert len(given_out) + conflated == len(events)
    assert inbox.conflated == conflated
    assert after(state, given_out) == after(state, events)


def test_of_values_set_again_and_again_the_last_one_is_sent():
    """A progress bar of a hundred steps costs one event; two that alternate cost two."""
    assert sent([patch(("replace", "/done", n)) for n in range(50)]) == [
        {"delta": [{"op": "replace", "path": "/done", "value": 49}]}
    ]
    both = [patch(("replace", f"/{'ab'[n % 2]}", n)) for n in range(10)]
    assert [fields["delta"][0]["value"] for fields in sent(both)] == [8, 9]
    members = [patch(("add", "/user/name", n), ("replace", "/age", n)) for n in range(3)]
    assert [fields["delta"][0]["value"] for fields in sent(members)] == [2]


def test_a_snapshot_replaces_all_that_waits_before_it():
    """Patches of any kind and older snapshots; what comes after it stays."""
    events = [snapshot(1), patch(("remove", "/x")), patch(("add", "/l/-", 1)), snapshot(2), patch(("replace", "/x", 1))]
    assert sent(events) == [{"snapshot": 2}, events[-1][1]]


@pytest.mark.parametrize(
    "events",
    [
        [
            patch(("replace", "/a", 1)),
            patch(("replace", "/a", 2), ("replace", "/b", 2)),
        ],  # might fail where the first did not
        [patch(("add", "/l/0", 1)), patch(("add", "/l/0", 2))],
        [patch(("add", "/l/-", 1)), patch(("add", "/l/-", 1))],
        [patch(("replace", "/a", 1)), patch(("test", "/a", 1)), patch(("replace", "/a", 2))],
        [patch(("replace", "/a/b", 1)), patch(("replace", "/a", {})), patch(("replace", "/a/b", 2))],
        [patch(("replace", "/a/1", 1)), patch(("remove", "/a/0")), patch(("replace", "/a/1", 2))],
        [patch(("replace", "/a", 1), ("replace", "/a/b", 1)), patch(("replace", "/a", 1), ("replace", "/a/b", 1))],
        [patch(("replace", "a", 1)), patch(("replace", "a", 1))],
        [("STATE_DELTA", {"delta": 7}), ("STATE_DELTA", {"delta": 7})],
        [("STATE_DELTA", {"delta": [7]}), ("STATE_DELTA", {"delta": [7]})],
        [("STATE_DELTA", {"delta": [], "subagentRunId": "x"}), ("STATE_DELTA", {"delta": [], "subagentRunId": "y"})],
        [snapshot(1), ("STATE_SNAPSHOT", {"snapshot": 2, "metadata": {"by": "me"}})],
    ],
)
def test_what_might_make_a_difference_is_sent(events):
    """Other paths, places in arrays, tests, one path inside another, patches that are none, what else an event says."""
    assert sent(events) == [fields for _, fields in events]


def test_only_neighbours_of_one_state_are_compared():
    """Another document, another run or any other event between them, and both are sent."""
    step = make(*patch(("replace", "/a", 1)), entity="d1")
    for other in (
        make(*patch(("replace", "/a", 1)), entity="d2"),
        make(*patch(("replace", "/a", 1)), entity="d1", run="q"),
        make("CUSTOM", {"name": "x"}),
    ):
        assert len(frame(numbered([step, other, step]), 0, 64)[0]) == 3


def test_activities_and_messages_are_state_too():
    """An activity's snapshot replaces its older ones, unless it says otherwise; so do the messages'."""
    card = ("ACTIVITY_SNAPSHOT", {"messageId": "m", "activityType": "PLAN", "content": {"n": 1}})
    step = (
        "ACTIVITY_DELTA",
        {"messageId": "m", "activityType": "PLAN", "patch": [{"op": "replace", "path": "/n", "value": 2}]},
    )
    assert sent([card, step, card], entity="m") == [card[1]]
    assert sent([card, step, step], entity="m") == [card[1], step[1]]
    keeps = (card[0], {**card[1], "replace": False})
    assert sent([card, keeps], entity="m") == [card[1], keeps[1]]
    assert sent([("MESSAGES_SNAPSHOT", {"messages": [n]}) for n in range(3)]) == [{"messages": [2]}]


def test_a_body_that_cannot_be_read_is_passed_on():
    """It is not ours to judge; what stands around it keeps its place."""
    good, bad = make(*patch(("replace", "/a", 1))), (*make("STATE_DELTA", {})[:11], b"\x81\xa5del", "")
    assert frame(numbered([good, bad, good]), 0, 64)[0] == [good, bad, good]


def test_looking_ahead_is_bounded():
    """At most 64 events and 8 KiB of patches for one stretch; credit ends it too."""
    many = numbered([make(*patch(("replace", "/a", n))) for n in range(200)])
    assert [Conflation(many, NO_END).needed(at) for at in (0, 10, 62)] == [63, 73, 125]
    twice = Conflation(many, NO_END)
    assert [twice.needed(at) for at in (0, 10, 63, 64)] == [63, 63, 63, 127]
    large = numbered([make(*patch(("replace", "/a", "x" * 2_500))) for _ in range(9)])
    assert Conflation(large, NO_END).needed(0) == 2
    assert Conflation(many, many[4][1]).needed(0) == 4
    assert Conflation(numbered([make(*snapshot("x" * 50_000))] * 3), NO_END).needed(0) == 2
    assert {"STATE_DELTA", "STATE_SNAPSHOT"} < STATE_KINDS
