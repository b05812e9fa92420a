"""The depth of a document's items, kept across updates."""

from __future__ import annotations

import pycrdt
import pytest

from laneway.actors.sync.lib0 import varuint
from laneway.actors.sync.nesting import Nesting
from laneway.actors.sync.update import parse_update
from laneway.routing.errors import PeerProtocolError


def recorded(doc, edit):
    updates = []
    subscription = doc.observe(lambda event: updates.append(event.update))
    edit()
    doc.unobserve(subscription)
    return updates


def test_a_chain_of_small_updates_ends_at_the_limit():
    """Each adds one map inside the last; the one that goes too deep is refused, and it alone."""
    doc = pycrdt.Doc(client_id=1)
    root = doc.get("state", type=pycrdt.Map)
    nesting, node = Nesting(limit=10), root
    for level in range(1, 14):
        (raw,) = recorded(doc, lambda node=node: node.__setitem__("a", pycrdt.Map()))
        node = node["a"]
        if level <= 10:
            nesting.admit(parse_update(raw))
        else:
            with pytest.raises(PeerProtocolError, match="DEPTH_EXCEEDED"):
                nesting.admit(parse_update(raw))
            break
    (raw,) = recorded(doc, lambda: root.__setitem__("b", [[[1]]]))
    assert parse_update(raw).structs[0].depth == 3


def test_depth_is_inherited_from_neighbours():
    """Items that name only their left neighbour stand where it stands; overwriting keeps the level."""
    doc = pycrdt.Doc(client_id=1)
    root = doc.get("state", type=pycrdt.Map)
    nesting = Nesting(limit=4)

    def admit(edit):
        for raw in recorded(doc, edit):
            nesting.admit(parse_update(raw))

    admit(lambda: root.__setitem__("list", pycrdt.Array()))
    for index in range(50):
        admit(lambda index=index: root["list"].insert(index // 2, pycrdt.Map()))
    for _ in range(20):
        admit(lambda: root["list"][3].__setitem__("x", pycrdt.Map()))
        admit(lambda: root["list"][3]["x"].__setitem__("y", 1))
    with pytest.raises(PeerProtocolError, match="DEPTH_EXCEEDED"):
        admit(lambda: root["list"][3]["x"].__setitem__("y", [1]))
    whole = Nesting(limit=5)
    whole.admit(parse_update(doc.get_update()))
    with pytest.raises(PeerProtocolError, match="DEPTH_EXCEEDED"):
        Nesting(limit=4).admit(parse_update(doc.get_update()))


def test_typing_costs_one_entry():
    """Runs of one depth are one row, however long."""
    doc = pycrdt.Doc(client_id=1)
    text, nesting = doc.get("text", type=pycrdt.Text), Nesting()
    for index in range(200):
        for raw in recorded(doc, lambda index=index: text.insert(index // 2, "x")):
            nesting.admit(parse_update(raw))
    assert nesting._runs == {1: ([0], [1])}
    assert nesting.known(1, 199) == 1
    assert nesting.known(1, 200) is None
    assert nesting.known(2, 0) is None


def chain(links):
    """An update of `links` nested maps whose order alternates between two clients, worst first."""
    blocks = {1: b"", 2: b""}
    for level in range(links):
        client, clock = 1 + level % 2, level // 2
        if level == 0:
            place = bytes([0x27, 1]) + b"\x05state" + b"\x01a"
        else:
            before = level - 1
            place = bytes([0x27, 0]) + varuint(1 + before % 2) + varuint(before // 2) + b"\x01a"
        blocks[client] += place + b"\x01"
        assert clock >= 0
    count = {1: (links + 1) // 2, 2: links // 2}
    body = b"".join(varuint(count[c]) + varuint(c) + varuint(0) + blocks[c] for c in (2, 1))
    return varuint(2) + body + varuint(0)


def test_references_between_clients_are_followed_without_recursion():
    """20,000 levels in one update, in the worst order, are refused; not a RecursionError."""
    with pytest.raises(PeerProtocolError, match="DEPTH_EXCEEDED"):
        Nesting().admit(parse_update(chain(20_000)))
    Nesting().admit(parse_update(chain(20)))


def test_a_circle_is_refused():
    """Two items, each inside the other."""
    one = varuint(1) + varuint(1) + varuint(0) + bytes([0x27, 0]) + varuint(2) + varuint(0) + b"\x01a\x01"
    two = varuint(1) + varuint(2) + varuint(0) + bytes([0x27, 0]) + varuint(1) + varuint(0) + b"\x01a\x01"
    with pytest.raises(PeerProtocolError, match="BAD_TYPE"):
        Nesting().admit(parse_update(varuint(2) + two + one + varuint(0)))
