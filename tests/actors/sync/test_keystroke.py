"""The pattern for what typing sends: the walk's answer, or none."""

from __future__ import annotations

import pycrdt
from hypothesis import example, given
from hypothesis import strategies as st

from laneway.actors.sync.keystroke import join_keystrokes, parse_keystroke
from laneway.actors.sync.update import parse_update
from laneway.routing.errors import PeerProtocolError

NUMBERS = st.one_of(st.integers(0, 300), st.integers(2**31 - 3, 2**31 + 3), st.integers(0, 2**56))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(128 | (number & 127))
        number >>= 7
    return bytes([*out, number])


def typed(places):
    """Updates of one-character edits at these places of a text."""
    doc, updates = pycrdt.Doc(), []
    text = doc.get("text", type=pycrdt.Text)
    subscription = doc.observe(lambda event: updates.append(event.update))
    for number, place in enumerate(places):
        text.insert(min(place, number), "abcdefgh"[number % 8])
    doc.unobserve(subscription)
    return updates


@given(st.lists(st.integers(0, 40), min_size=2, max_size=40))
def test_typing_is_read_by_the_pattern(places):
    """What is typed behind or between known characters, wherever that is, needs no walk; both read the same."""
    updates = typed(places)
    for update, place in zip(updates[1:], places[1:], strict=True):
        found = parse_keystroke(update)
        assert (found is None) == (place == 0)
        if found is not None:
            assert found == parse_update(update)


def test_other_updates_are_left_to_the_walk():
    """First text, deletion, text of two bytes, a map's value: None."""
    doc, updates = pycrdt.Doc(), []
    doc.observe(lambda event: updates.append(event.update))
    text = doc.get("text", type=pycrdt.Text)
    text.insert(0, "first")
    del text[1:2]
    text.insert(2, "é")
    doc.get("state", type=pycrdt.Map)["a"] = 1
    assert len(updates) == 4
    assert [parse_keystroke(update) for update in updates] == [None] * 4


@st.composite
def near_misses(draw):
    """Bytes that are almost, or just, a keystroke."""
    info = draw(st.sampled_from([0x84, 0xC4, 0x44, 0x81, 0xA4, 0x04]))
    ids = b"".join(varint(draw(NUMBERS)) for _ in range(2 + 2 * (info >> 7) + 2 * (info >> 6 & 1)))
    text = draw(st.one_of(st.text("ab\x00", max_size=3), st.text(max_size=3), st.just("x" * 128))).encode()
    size = draw(st.one_of(st.just(len(text)), st.integers(0, 200)))
    whose, when = varint(draw(NUMBERS)), varint(draw(NUMBERS))
    data = b"\x01\x01" + whose + when + bytes([info]) + ids + varint(size) + text + b"\x00"
    return draw(st.one_of(st.just(data), st.integers(0, len(data)).map(lambda end: data[:end]), st.just(data + b"\0")))


@given(st.one_of(near_misses(), st.binary(max_size=30)))
@example(b"\x01\x01\x05\x01\x84\x05\x00\x01a\x00")
@example(b"\x01\x01\x05\x01\xc4\x05\x00\x05\x00\x01a\x00")
def test_what_the_pattern_reads_the_walk_reads_alike(data):
    """Any bytes: nothing, or exactly the update of `parse_update`; so it never takes what the walk refuses."""
    found = parse_keystroke(data)
    if found is None:
        return
    try:
        assert found == parse_update(data)
    except PeerProtocolError as error:
        raise AssertionError(f"the walk refuses {data!r}: {error}") from error


def whole(updates):
    """The document that these make: text, state vector and all."""
    doc = pycrdt.Doc()
    for update in updates:
        doc.apply_update(update)
    return str(doc.get("text", type=pycrdt.Text)), doc.get_state(), doc.get_update()


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_what_continues_is_one_text(places, random):
    """Keystrokes as they come, some left out or repeated: runs are as long as the typing is straight, what is
    joined makes the same document, and is what the walk reads in it."""
    straight = sorted(places) if random.random() < 0.5 else places
    updates = typed(straight)
    payloads = [update for update in updates for _ in range(1 if random.random() < 0.95 else random.choice([0, 2]))]
    joined, at = [], 0
    while at < len(payloads):
        found = join_keystrokes(payloads, at, len(payloads))
        if found is None:
            joined.append(payloads[at])
            at += 1
            continue
        update, count = found
        assert count > 1
        assert update == parse_update(update.raw)
        joined.append(update.raw)
        at += count
    assert whole(joined) == whole(payloads)


def test_straight_typing_is_one_update():
    """At the end and in the middle of a text; another place, another author or a deletion ends it."""
    end = typed([*range(300)])[1:]
    update, count = join_keystrokes(end, 0, len(end))
    assert (count, len(update.structs), update.structs[0].length) == (299, 1, 299)
    middle = typed([0, 1, 2, *range(1, 40)])[3:]
    update, count = join_keystrokes(middle, 0, len(middle))
    assert count == 39
    assert update == parse_update(update.raw)
    assert join_keystrokes(end, 0, 10)[1] == 10
    assert join_keystrokes(end, 5, 6) is None
    other = typed([0, 1, 2])
    assert join_keystrokes([end[0], other[1]], 0, 2) is None
    assert join_keystrokes([end[0], b"\0\1\5\1\0\1"], 0, 2) is None
    assert join_keystrokes([b"", end[0]], 0, 2) is None


@given(near_misses(), near_misses())
def test_nothing_is_joined_that_is_not_a_keystroke(one, other):
    """Any two: not joined, or both are what the walk reads, and so is what they make."""
    found = join_keystrokes([one, other], 0, 2)
    if found is not None:
        for data in (one, other, found[0].raw):
            parse_update(data)
        assert found[0] == parse_update(found[0].raw)
