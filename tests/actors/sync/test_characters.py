"""Cuts through characters of two UTF-16 units."""

from __future__ import annotations

import pytest

from laneway.actors.sync.characters import Characters
from laneway.actors.sync.lib0 import var_bytes, varuint
from laneway.actors.sync.update import parse_update
from laneway.routing.errors import PeerProtocolError


def text(value, client=5, clock=0):
    """An update that appends text to the root `text`."""
    head = varuint(1) + varuint(1) + varuint(client) + varuint(clock)
    return parse_update(head + b"\x04\x01\x04text" + var_bytes(value.encode()) + b"\x00")


def after(ref, client=6, clock=0):
    """An update that inserts after the unit `ref` of client 5."""
    head = varuint(1) + varuint(1) + varuint(client) + varuint(clock)
    return parse_update(head + b"\x84" + varuint(5) + varuint(ref) + b"\x01x" + b"\x00")


def before(ref):
    head = varuint(1) + varuint(1) + varuint(6) + varuint(0)
    return parse_update(head + b"\x44" + varuint(5) + varuint(ref) + b"\x01x" + b"\x00")


def deleted(start, length):
    return parse_update(b"\x00\x01\x05\x01" + varuint(start) + varuint(length))


@pytest.mark.parametrize(
    ("update", "refused"),
    [
        (after(0), False),  # a|👋b
        (after(1), True),
        (after(2), False),
        (before(1), False),
        (before(2), True),
        (deleted(1, 2), False),
        (deleted(1, 1), True),
        (deleted(2, 1), True),
        (deleted(0, 4), False),
        (deleted(0, 2), True),
    ],
)
def test_only_cuts_inside_a_pair_are_refused(update, refused):
    """In "a👋b" unit 2 is the second half."""
    characters = Characters()
    characters.admit(text("a👋b"))
    if refused:
        with pytest.raises(PeerProtocolError, match="SPLIT_CHARACTER"):
            characters.admit(update)
    else:
        characters.admit(update)


def test_a_cut_within_one_update_is_seen():
    """The pair may come with the cut."""
    raw = text("👋").raw[:-1] + b"\x01\x05\x01\x00\x01"
    with pytest.raises(PeerProtocolError, match="SPLIT_CHARACTER"):
        Characters().admit(parse_update(raw))


def test_plain_text_costs_nothing():
    """Nothing is kept for characters of one unit."""
    characters = Characters()
    characters.admit(text("aé世" * 100))
    assert characters._halves == {}
