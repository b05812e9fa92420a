"""Frames and calls as bytes: there and back, and each row of the bad-input checklist with its exact reason."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.engine import frames
from laneway.engine.frames import Frames, decode_call, encode_call
from laneway.engine.limits import Limits
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import LocalProtocolError, PeerProtocolError
from tests.engine.test_codec import MSGPACK_BODIES, json_like
from tests.engine.test_columns import KINDS, NOW, columns, events, reason_of

FRAMES = Frames(KINDS, lambda: NOW)

headers = st.dictionaries(
    st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=8), json_like, max_size=4
)


def framed(items: Any, header: bytes = b"\x80") -> bytes:
    return b"\x93\x01" + header + bytes(msgpack.packb(items))


def refused(call: Callable[[], object]) -> str:
    reason = reason_of(call)
    assert reason is not None, "taken"
    return reason


@given(headers, st.lists(events, max_size=5))
def test_there_and_back(header: dict[str, Any], sent: list[Envelope]) -> None:
    """Header and events come back; only ACCEPTED is the receiver's."""
    assert FRAMES.decode(FRAMES.encode(header, sent)) == (header, [(*env[:12], NOW) for env in sent])


@given(headers, st.lists(st.binary(max_size=300), max_size=5))
def test_calls_there_and_back(header: dict[str, Any], items: list[bytes]) -> None:
    """A question's header and items come back; items stay opaque bytes."""
    assert decode_call(encode_call(header, items)) == (header, items)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93\x01", b"\x93\x01\x80", b"\x93\x01\x80\x9c"]))
def test_any_bytes_give_a_value_or_a_typed_error(data: bytes, start: bytes) -> None:
    """Random bytes never raise anything but a PeerProtocolError that names its rule."""
    for decode in (FRAMES.decode, decode_call):
        assert reason_of(lambda decode=decode: decode(start + data)) != ""  # type: ignore[misc]


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_frame_gives_a_value_or_a_typed_error(data: st.DataObject) -> None:
    """Flipped and cut bytes of a good frame never raise anything else."""
    header = {"ack": ["e", 1, 2], "grant": 70_000, "x": {"y": [1.5, None]}}
    frame = bytearray(FRAMES.encode(header, data.draw(st.lists(events, max_size=4))))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.integers(0, len(frame)))])
    assert reason_of(lambda: FRAMES.decode(cut)) != ""


odd = st.sampled_from([None, True, 1, -1, 1.5, "", "a\nb", b"", [], {}, [[]], {"a": [1]}, {1: 2}, "\0", [None] * 40])


@settings(max_examples=150)
@given(st.data())
def test_a_small_frame_is_what_it_is_step_by_step(data: st.DataObject) -> None:
    """Read in one pass it gives the very events, or the very reason, that a large one is given."""
    made: list[Any] = columns(data.draw(st.integers(1, 3)))
    for at in data.draw(st.lists(st.integers(0, 11), max_size=2)):
        made[at] = data.draw(odd | st.lists(odd, max_size=3))
    header = data.draw(st.just({}) | st.dictionaries(st.sampled_from(["a", "\0", b"a", 1]), odd, max_size=2) | odd)
    frame = bytearray(msgpack.packb([1, header, made]))
    for _ in range(data.draw(st.integers(0, 2))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    outcomes = []
    for small in (frames._small, lambda _data, _limits: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frames, "_small", small)
            reason = reason_of(lambda: FRAMES.decode(bytes(frame)))
            outcomes.append(FRAMES.decode(bytes(frame)) if reason is None else reason)
    assert repr(outcomes[0]) == repr(outcomes[1])


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({1: -1, 8: {"a": [1]}}, "BAD_TYPE"),
        ({1: -1, 8: [{"a": 1}]}, "BAD_TYPE"),
        ({1: -1}, "NUMBER_RANGE"),
    ],
)
def test_of_several_rules_that_a_frame_breaks_the_same_is_told(odd: dict[int, Any], reason: str) -> None:
    """Whatever its size: what has no place in a frame at all comes before what is out of range."""
    for padding in (0, 70_000):
        made: list[Any] = columns(1)
        made[11] = [bytes(padding)]
        for at, value in odd.items():
            made[at] = value
        assert refused(lambda made=made: FRAMES.decode(msgpack.packb([1, {}, made]))) == reason  # type: ignore[misc]


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in MSGPACK_BODIES], ids=[c[0] for c in MSGPACK_BODIES])
def test_bad_headers(data: bytes, reason: str) -> None:
    """P1, P3 to P6, P8: what is no body is no header either."""
    frame = b"\x93\x01" + data + b"\x90"
    assert reason in ("TRUNCATED", "TRAILING_BYTES") or refused(lambda: FRAMES.decode(frame)) == reason
    assert reason in ("TRUNCATED", "TRAILING_BYTES") or refused(lambda: decode_call(frame)) == reason


WHOLE = [
    ("empty", b"", "TRUNCATED"),
    ("version only", b"\x93\x01", "TRUNCATED"),
    ("no items", b"\x93\x01\x80", "TRUNCATED"),
    ("not an array", b"\x80", "BAD_TYPE"),
    ("two fields", b"\x92\x01\x80", "BAD_TYPE"),
    ("version 2", b"\x93\x02\x80\x90", "UNKNOWN_VERSION"),
    ("header not a map", b"\x93\x01\x90\x90", "BAD_TYPE"),
    ("header key", b"\x93\x01\x81\x01\x01\x90", "BAD_KEY"),
    ("items a map", b"\x93\x01\x80\x80", "BAD_TYPE"),
    ("items a str", b"\x93\x01\x80\xa0", "BAD_TYPE"),
    ("items nil", b"\x93\x01\x80\xc0", "BAD_TYPE"),
    ("an ext", b"\x93\x01\x80\x91\xd4\x01\x01", "EXT_REFUSED"),
    ("an empty ext", b"\x93\x01\x80\x91\xc7\x00\x01", "EXT_REFUSED"),
    ("0xc1", b"\x93\x01\x80\x91\xc1", "BAD_TYPE"),
    ("array32 2^32-1", b"\x93\x01\x80\xdd\xff\xff\xff\xff", "TOO_MANY_ITEMS"),
    ("a map of something", b"\x93\x01\x80\x91\x81\xa1a\x01", "BAD_TYPE"),
    ("cut", b"\x93\x01\x80\x92\xc4\x01a", "TRUNCATED"),
    ("bin32 2^32-1", b"\x93\x01\x80\x91\xc6\xff\xff\xff\xff", "TRUNCATED"),
    ("nested deep", b"\x93\x01\x80" + b"\x91" * 100_000, "DEPTH_EXCEEDED"),
    ("many arrays", b"\x93\x01\x80\xdc\x04\x00" + b"\x90" * 1_024, "BAD_TYPE"),
    ("bad UTF-8", b"\x93\x01\x80\x91\xa1\xff", "BAD_UTF8"),
    ("trailing", b"\x93\x01\x80\x90\x00", "TRAILING_BYTES"),
    ("header 64 KiB + 1", encode_call({"a": "x" * 70_000}), "TOO_LARGE"),
    ("limit + 1", b"\x93\x01\x80\x90" + b"\0" * 1_048_576, "TOO_LARGE"),
]


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE])
def test_bad_frames_and_calls(data: bytes, reason: str) -> None:
    """P1, P3 to P5 on a whole frame, of a stream and of a call."""
    assert refused(lambda: FRAMES.decode(data)) == reason
    assert refused(lambda: decode_call(data)) == reason
    assert decode_call(encode_call({}, [b"a"])) == ({}, [b"a"])


def test_what_is_wrong_with_columns_is_wrong_with_their_frame() -> None:
    """Types and rules of columns hold on the wire; the number of items is bounded there."""
    assert refused(lambda: FRAMES.decode(framed(columns(run=[[], []])))) == "BAD_TYPE"
    assert refused(lambda: FRAMES.decode(framed(columns(run="../etc")))) == "BAD_ID"
    assert refused(lambda: FRAMES.decode(framed([b"a"]))) == "BAD_TYPE"
    assert refused(lambda: FRAMES.decode(framed(columns(1_025)))) == "TOO_MANY_ITEMS"
    assert len(FRAMES.decode(framed(columns(1_024)))[1]) == 1_024
    assert FRAMES.decode(framed([])) == ({}, [])


def test_what_is_wrong_with_a_calls_items() -> None:
    """They are byte strings, a bounded number of them."""
    for items in ([1], ["a"], [None], [[b"a"]], [{}]):
        assert refused(lambda items=items: decode_call(framed(items))) == "BAD_TYPE"  # type: ignore[misc]
    assert refused(lambda: decode_call(framed([b""] * 1_025))) == "TOO_MANY_ITEMS"
    assert refused(lambda: decode_call(framed([b""] * 5), Limits(items=4))) == "TOO_MANY_ITEMS"
    assert len(decode_call(framed([b""] * 4), Limits(items=4))[1]) == 4


def test_limits_of_an_edge_hold() -> None:
    """Smaller limits than the default are the edge's to set."""
    small = Frames(KINDS, lambda: NOW, Limits(frame_bytes=1024, items=2))
    assert refused(lambda: small.decode(framed(columns(bodies=[b"x" * 2000])))) == "TOO_LARGE"
    assert refused(lambda: small.decode(framed(columns(3)))) == "TOO_MANY_ITEMS"
    assert len(small.decode(framed(columns(2)))[1]) == 2


def test_events_that_cannot_be_packed_leave_no_trace() -> None:
    """It is the caller's bug, named as such, and the next frame is whole."""
    good = envelope("USER_MESSAGE", producer="c", counter=1, tenant="t", session="s", lane=1, body=b"x" * 9000)
    bad = envelope("USER_MESSAGE", producer="c", counter=1 << 70, tenant="t", session="s", lane=1)
    expected = FRAMES.encode({}, [good])
    for header, sent in (({}, [bad]), ({"x": object()}, [good])):
        with pytest.raises(LocalProtocolError):
            FRAMES.encode(header, sent)
        assert FRAMES.encode({}, [good]) == expected
    with pytest.raises(LocalProtocolError):
        encode_call({"x": object()})


WORST = [
    ("arrays in arrays", b"\xdc\x04\x00" * 300_000),
    ("arrays of nothing", b"\xdc\x04\x00" + (b"\xdc\x04\x00" + b"\x90" * 1_024) * 900),
    ("maps of nothing", b"\xdc\x04\x00" + (b"\xdc\x04\x00" + b"\x80" * 1_024) * 900),
    ("a million strings", b"\x9c" + (b"\xdc\x04\x00" + b"\xa1\xff" * 1_024) * 12),
]


@pytest.mark.parametrize("items", [case[1] for case in WORST], ids=[case[0] for case in WORST])
def test_memory_stays_bounded(items: bytes) -> None:
    """P4: refusing 1 MiB of the worst items or the worst header allocates less than 16 MiB at its peak."""
    worst_header = b"\x93\x01\x81\xa1a\xdc\x27\x10" + (b"\x9a" + b"\x80" * 10) * 10_000
    tracemalloc.start()
    try:
        for data in (b"\x93\x01\x80" + items, worst_header):
            for decode in (FRAMES.decode, decode_call):
                with pytest.raises(PeerProtocolError):
                    decode(data)
        assert tracemalloc.get_traced_memory()[1] < 16 * 1_048_576
    finally:
        tracemalloc.stop()
