"""Reading Yjs updates without applying them: agreement with the library, bounds, gaps."""

from __future__ import annotations

import random

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.actors.sync.lib0 import var_bytes, varuint
from laneway.actors.sync.messages import decode_vector
from laneway.actors.sync.update import UpdateLimits, parse_update
from laneway.routing.errors import PeerProtocolError


def item(content: int, body: bytes, clock: int = 0) -> bytes:
    """An update of one item `a` in root map `state` by client 5."""
    head = varuint(1) + varuint(1) + varuint(5) + varuint(clock) + bytes([0x20 | content, 1])
    return head + var_bytes(b"state") + var_bytes(b"a") + body + varuint(0)


def rich(doc):
    """One of everything Yjs can hold."""
    root = doc.get("state", type=pycrdt.Map)
    root["any"] = {"x": [1, 2.5, None, True, "é😀", 2**60, b"bytes", -3, {"y": []}]}
    root["map"] = pycrdt.Map({"k": pycrdt.Array([1, pycrdt.Map({"z": pycrdt.Text("t😀")})])})
    text = doc.get("text", type=pycrdt.Text)
    text.insert(0, "hello é😀 world")
    text.format(0, 5, {"bold": True, "link": {"href": "x"}})
    text.insert_embed(3, {"image": [1, {"a": 2}]})
    del text[1:4]
    fragment = doc.get("xml", type=pycrdt.XmlFragment)
    element = pycrdt.XmlElement("p", {"class": "x"}, [pycrdt.XmlText("inner")])
    fragment.children.append(element)
    root["sub"] = pycrdt.Doc({"t": pycrdt.Text("sub")})
    del root["any"]


def history(seed: int = 5):
    """(document, its updates in order)."""
    doc, updates = pycrdt.Doc(client_id=seed), []
    subscription = doc.observe(lambda event: updates.append(event.update))
    rich(doc)
    doc.unobserve(subscription)
    return doc, updates


def test_everything_the_library_writes_is_understood():
    """Every content type; the ranges of the whole are the state vector."""
    doc, updates = history()
    whole = parse_update(doc.get_update())
    ends: dict[int, int] = {}
    for struct in whole.structs:
        assert struct.clock == ends.get(struct.client, 0)
        ends[struct.client] = struct.clock + struct.length
    assert ends == decode_vector(doc.get_state())
    assert not whole.missing({})
    known: dict[int, int] = {}
    for raw in updates:
        update = parse_update(raw)
        assert not update.missing(known)
        for struct in update.structs:
            known[struct.client] = max(known.get(struct.client, 0), struct.clock + struct.length)
    assert known == ends


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_a_gap_is_seen_exactly_when_the_library_would_hold_the_update(seed):
    """Random delivery: not missing means that the replica knows all of it afterwards."""
    rng = random.Random(seed)
    doc, updates = history()
    other = pycrdt.Doc(client_id=6)
    other.apply_update(doc.get_update())
    subscription = other.observe(lambda event: updates.append(event.update))
    other.get("text", type=pycrdt.Text).insert(2, "+")
    other.get("state", type=pycrdt.Map)["map"]["new"] = 1
    del other.get("state", type=pycrdt.Map)["map"]
    other.unobserve(subscription)
    rng.shuffle(updates)
    target, applied, held = pycrdt.Doc(), 0, list(updates)
    while held:
        ready = [raw for raw in held if not parse_update(raw).missing(decode_vector(target.get_state()))]
        assert ready, "something must always be ready"
        raw = rng.choice(ready)
        target.apply_update(raw)
        held.remove(raw)
        applied += 1
        vector = decode_vector(target.get_state())
        assert all(vector.get(s.client, 0) >= s.clock + s.length for s in parse_update(raw).structs)
    assert decode_vector(target.get_state()) == decode_vector(other.get_state())
    assert applied == len(updates)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "TRUNCATED"),
        (b"\x00", "TRUNCATED"),
        (b"\x00\x00\x00", "TRAILING_BYTES"),
        (varuint(2**40), "TRUNCATED"),
        (varuint(1) + varuint(2**40) + b"\x05\x00", "TRUNCATED"),
        (b"\x00" + varuint(2**40), "TRUNCATED"),
        (item(8, varuint(1) + bytes([117, 1]) * 100_000 + b"\x7e"), "DEPTH_EXCEEDED"),
        (item(8, varuint(1) + bytes([118, 1, 1, 97]) * 100_000 + b"\x7e"), "DEPTH_EXCEEDED"),
        (item(8, varuint(1) + bytes([117]) + varuint(2**31)), "TRUNCATED"),
        (item(8, varuint(2**31)), "TRUNCATED"),
        (item(8, varuint(1) + bytes([7])), "BAD_TYPE"),
        (item(5, var_bytes(b"[" * 200_000)), "DEPTH_EXCEEDED"),
        (item(6, var_bytes(b"bold") + var_bytes(b'{"a":' * 90)), "DEPTH_EXCEEDED"),
        (item(2, varuint(1) + var_bytes(b"[" * 90)), "DEPTH_EXCEEDED"),
        (item(7, varuint(9)), "BAD_TYPE"),
        (item(11, b"\x00\x00\x00"), "BAD_TYPE"),
        (item(4, var_bytes(b"\xff")), "BAD_UTF8"),
        (item(4, var_bytes(b"")), "NUMBER_RANGE"),
        (item(1, varuint(2**32)), "NUMBER_RANGE"),
        (item(8, varuint(1) + b"\x7e", clock=2**32 - 1), "NUMBER_RANGE"),
        (varuint(0) + varuint(1) + varuint(5) + varuint(1) + varuint(0) + varuint(2**32 - 1), "NUMBER_RANGE"),
        (varuint(1) + varuint(1) + varuint(5) + varuint(0) + b"\x00" + varuint(2**50) + b"\x00", "NUMBER_RANGE"),
    ],
)
def test_hostile_updates_are_refused_before_the_library_sees_them(data, reason):
    """Among them those that kill the process or wrap its clocks (measured, pycrdt 0.14.13)."""
    with pytest.raises(PeerProtocolError) as caught:
        parse_update(data)
    assert caught.value.reason == reason


def test_brackets_in_strings_are_no_depth():
    """Only real nesting counts."""
    assert parse_update(item(5, var_bytes(b'{"a":"[[[[\\"[[["}'))).structs[0].depth == 1


def test_the_number_of_structs_is_bounded():
    """2 bytes a struct must not become seconds of reading."""
    _, updates = history()
    doc = pycrdt.Doc()
    for raw in updates:
        doc.apply_update(raw)
    with pytest.raises(PeerProtocolError, match="TOO_MANY_ITEMS"):
        parse_update(doc.get_update(), UpdateLimits(structs=3))


def test_an_update_without_content_is_empty():
    """No structs, no deletions."""
    assert parse_update(b"\x00\x00").empty
    assert not parse_update(item(8, varuint(1) + b"\x7e")).empty
