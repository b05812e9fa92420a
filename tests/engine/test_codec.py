"""The codec: round trips, and each row of the bad-input checklist with its exact reason."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.engine.codec import (
    EnvelopePacker,
    decode_json,
    decode_text,
    pack_body,
    pack_envelope,
    unpack_body,
    unpack_envelope,
    valid_id,
)
from laneway.engine.limits import Limits
from laneway.routing.classify import BUILTIN_KINDS, Kind, KindTable
from laneway.routing.envelope import ACCEPTED, DEADLINE, KIND, NO_DEADLINE, TRACE, Envelope, envelope
from laneway.routing.errors import LocalProtocolError, PeerProtocolError
from laneway.routing.lanes import Lane

KINDS = KindTable([Kind("orders.placed", Lane.NORMAL)])
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

ids = st.from_regex(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,63}", fullmatch=True)
json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=5)
    ),
    max_leaves=20,
)
envelopes = st.builds(
    lambda **fields: envelope(**fields),
    kind=st.sampled_from([kind.name for kind in BUILTIN_KINDS] + ["orders.placed"]),
    producer=ids,
    counter=st.integers(1, 2**63 - 1),
    tenant=ids,
    session=ids,
    lane=st.integers(0, 3),
    run=ids | st.just(""),
    entity=ids | st.just(""),
    deadline=st.just(NO_DEADLINE) | st.integers(100, 10_000).map(float),
    trace=st.just("") | st.just(TRACEPARENT),
    after=ids | st.just(""),
    body=st.binary(max_size=300),
)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(PeerProtocolError) as caught:
        call()
    assert caught.value.code == "MALFORMED"
    assert len(str(caught.value)) < 400
    return caught.value.reason


def settles(call: Callable[[], object]) -> bool:
    """Return whether the call gives a value or a PeerProtocolError that names its rule."""
    try:
        call()
    except PeerProtocolError as error:
        return error.reason != ""
    return True


def row(**changes: Any) -> bytes:
    """A good item with some fields replaced."""
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
        "body": b"hi",
    }
    return msgpack.packb(list((fields | changes).values()))  # type: ignore[no-any-return]


def read(data: bytes) -> Envelope:
    return unpack_envelope(data, 50.0, KINDS)


@given(envelopes)
def test_envelope_round_trip(env: Envelope) -> None:
    """An envelope comes back as it was; only ACCEPTED is the receiver's."""
    back = unpack_envelope(pack_envelope(env, 50.0, KINDS), 50.0, KINDS)
    assert back[:ACCEPTED] == env[:ACCEPTED]
    assert back[ACCEPTED] == 50.0


@given(json_like.map(lambda value: {"k": value}))
def test_body_and_json_round_trip(body: dict[str, Any]) -> None:
    """Every JSON-like map survives msgpack and JSON alike."""
    assert unpack_body(pack_body(body)) == body
    assert decode_json(json.dumps(body).encode()) == body


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(["item", "body", "json"]))
def test_any_bytes_give_a_value_or_a_typed_error(data: bytes, what: str) -> None:
    """Random bytes never raise anything but PeerProtocolError."""
    decoders: dict[str, Callable[[bytes], object]] = {
        "item": lambda raw: read(b"\x9c" + raw),
        "body": lambda raw: unpack_body(b"\x81" + raw),
        "json": decode_json,
    }
    assert settles(lambda: decoders[what](data))


def nested(depth: int) -> bytes:
    return b"\x81\xa1k" + b"\x91" * (depth - 1) + b"\xc0"


MSGPACK_BODIES = [
    ("empty", b"", "TRUNCATED"),
    ("truncated", b"\x81\xa1a", "TRUNCATED"),
    ("truncated str", b"\x81\xa1a\xa5ab", "TRUNCATED"),
    ("truncated length", b"\x81\xa1a\xdb\x00", "TRUNCATED"),
    ("trailing", b"\x80\x01", "TRAILING_BYTES"),
    ("depth 33", nested(33), "DEPTH_EXCEEDED"),
    ("depth 1023", nested(1023), "DEPTH_EXCEEDED"),
    ("depth 100k", nested(100_000), "DEPTH_EXCEEDED"),
    ("array32 2^32-1", b"\x81\xa1a\xdd\xff\xff\xff\xff", "TOO_MANY_ITEMS"),
    ("map32 2^32-1", b"\xdf\xff\xff\xff\xff", "TOO_MANY_ITEMS"),
    ("bin32 2^32-1", b"\x81\xa1a\xc6\xff\xff\xff\xff", "TRUNCATED"),
    ("10,001 entries", b"\x81\xa1a\xdc\x27\x11" + b"\xc0" * 10_001, "TOO_MANY_ITEMS"),
    ("1 MiB of empty maps", b"\x81\xa1a\xdd\x00\x0f\xff\xf0" + b"\x80" * 0xFFFF0, "TOO_MANY_ITEMS"),
    ("many small arrays", b"\x81\xa1a\xdc\x27\x10" + (b"\x9a" + b"\x80" * 10) * 10_000, "TOO_MANY_ITEMS"),
    ("ext 42", b"\x81\xa1a\xd4\x2a\x00", "EXT_REFUSED"),
    ("ext8 of no bytes", b"\x81\xa1a\xc7\x00\x05", "EXT_REFUSED"),
    ("timestamp", b"\x81\xa1a\xd6\xff\x00\x00\x00\x00", "EXT_REFUSED"),
    ("0xc1", b"\x81\xa1a\xc1", "BAD_TYPE"),
    ("not a map", b"\x91\x01", "BAD_TYPE"),
    ("int key", b"\x81\x01\x01", "BAD_KEY"),
    ("bin key", b"\x81\xc4\x01a\x01", "BAD_KEY"),
    ("NaN", b"\x81\xa1a\xcb" + struct.pack(">d", float("nan")), "NON_FINITE"),
    ("Infinity", b"\x81\xa1a\xca" + struct.pack(">f", float("inf")), "NON_FINITE"),
    ("-Infinity", b"\x81\xa1a\x91\xcb" + struct.pack(">d", float("-inf")), "NON_FINITE"),
    ("bad UTF-8", b"\x81\xa1a\xa2\xff\xfe", "BAD_UTF8"),
    ("surrogate", b"\x81\xa1a\xa3\xed\xa0\x80", "BAD_UTF8"),
    ("NUL", b"\x81\xa1a\xa1\x00", "BAD_UTF8"),
    ("NUL in a key", b"\x81\xa1\x00\x01", "BAD_UTF8"),
    ("limit + 1", pack_body({"a": "x" * 1_048_576}), "TOO_LARGE"),
]


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in MSGPACK_BODIES], ids=[c[0] for c in MSGPACK_BODIES])
def test_bad_msgpack(data: bytes, reason: str) -> None:
    """P1, P3 to P6, P8 on a body."""
    assert refused(lambda: unpack_body(data)) == reason
    assert unpack_body(b"\x81\xa1a\x01") == {"a": 1}


JSON_BODIES = [
    ("empty", b"", "TRUNCATED"),
    ("truncated", b'{"a": [1', "TRUNCATED"),
    ("trailing", b"{} {}", "TRAILING_BYTES"),
    ("trailing comma", b"[1,]", "BAD_TYPE"),
    ("depth 33", b"[" * 33 + b"]" * 33, "DEPTH_EXCEEDED"),
    ("depth 1023", b"[" * 1023 + b"]" * 1023, "DEPTH_EXCEEDED"),
    ("depth 100k", b"[" * 40_000 + b"1" + b"]" * 40_000, "DEPTH_EXCEEDED"),
    ("1 MiB of empty maps", b"[" + b"{}," * 340_000 + b"{}]", "TOO_MANY_ITEMS"),
    ("10,001 entries", b"[" + b"1," * 10_000 + b"1]", "TOO_MANY_ITEMS"),
    ("NaN", b"[NaN]", "NON_FINITE"),
    ("Infinity", b'{"a":Infinity}', "NON_FINITE"),
    ("-Infinity", b"-Infinity", "NON_FINITE"),
    ("1e400", b"[1e400]", "NON_FINITE"),
    ("5000 digits", b"9" * 5_000, "NUMBER_RANGE"),
    ("2^64", b"18446744073709551616", "NUMBER_RANGE"),
    ("-2^63-1", b"[-9223372036854775809]", "NUMBER_RANGE"),
    ("int key", b"{1: 2}", "BAD_KEY"),
    ("bad UTF-8", b'"\xff"', "BAD_UTF8"),
    ("lone surrogate", b'"\\ud800"', "BAD_UTF8"),
    ("surrogate and text", b'"\\ud800abcdef"', "BAD_UTF8"),
    ("lone low surrogate", b'["\\udc00"]', "BAD_UTF8"),
    ("NUL", b'"a\x00"', "BAD_UTF8"),
    ("escaped NUL", b'{"a":"\\u0000"}', "BAD_UTF8"),
    ("BOM", b"\xef\xbb\xbf{}", "BAD_UTF8"),
    ("UTF-16", '{"a":1}'.encode("utf-16"), "BAD_UTF8"),
    ("UTF-16 without BOM", '{"a":1}'.encode("utf-16-le"), "BAD_UTF8"),
    ("limit + 1", b'"' + b"x" * 1_048_576 + b'"', "TOO_LARGE"),
]


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in JSON_BODIES], ids=[case[0] for case in JSON_BODIES])
def test_bad_json(data: bytes, reason: str) -> None:
    """P1, P3 to P6, P8 on a JSON document."""
    assert refused(lambda: decode_json(data)) == reason
    assert decode_json(b'{"a": 1}') == {"a": 1}


def test_commas_in_text_are_not_values() -> None:
    """A long text full of commas and brackets is one value, also when its quotes are escaped."""
    text = '[{,"\\' * 50_000
    assert decode_json(json.dumps([text]).encode()) == [text]


def test_hostile_quotes_cost_linear_time() -> None:
    """An unclosed string of escaped quotes is refused without scanning it once per quote."""
    assert refused(lambda: decode_json(b"," * 60_000 + b'"' + b'\\"' * 400_000)) == "TOO_MANY_ITEMS"


def test_duplicate_keys_last_wins_in_both() -> None:
    """P7: documented as last one wins, the same in msgpack and JSON."""
    assert unpack_body(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}
    assert decode_json(b'{"a":1,"a":2}') == {"a": 2}


def test_depth_32_is_allowed() -> None:
    """The limit itself is inside."""
    assert unpack_body(nested(32))
    assert decode_json(b"[" * 32 + b"]" * 32)


ITEMS = [
    ("11 fields", msgpack.packb(["p"] * 11), "BAD_TYPE"),
    ("13 fields", msgpack.packb(["p"] * 13), "TOO_MANY_ITEMS"),
    ("a map", b"\x80", "BAD_TYPE"),
    ("a str", b"\xa1a", "BAD_TYPE"),
    ("empty", b"", "TRUNCATED"),
    ("truncated", row()[:-1], "TRUNCATED"),
    ("trailing", row() + b"\0", "TRAILING_BYTES"),
    ("nested 100k", b"\x91" * 100_000, "DEPTH_EXCEEDED"),
    ("field is an array", row(run=[]), "BAD_TYPE"),
    ("field is a map", row(run={"a": 1}), "BAD_TYPE"),
    ("field is ext", row()[:-4] + b"\xd4\x01\x01", "EXT_REFUSED"),
    ("field is empty ext", row()[:-4] + b"\xc7\x00\x01", "EXT_REFUSED"),
    ("body is str", row(body="text"), "BAD_TYPE"),
    ("counter is bool", row(counter=True), "BAD_TYPE"),
    ("counter is float", row(counter=1.0), "BAD_TYPE"),
    ("counter 0", row(counter=0), "NUMBER_RANGE"),
    ("counter negative", row(counter=-1), "NUMBER_RANGE"),
    ("counter 2^63", row(counter=2**63), "NUMBER_RANGE"),
    ("lane 4", row(lane=4), "NUMBER_RANGE"),
    ("lane -1", row(lane=-1), "NUMBER_RANGE"),
    ("remaining negative", row(remaining=-1), "NUMBER_RANGE"),
    ("remaining float", row(remaining=1.5), "BAD_TYPE"),
    ("kind 0", row(kind=0), "UNKNOWN_KIND"),
    ("kind 9999", row(kind=9999), "UNKNOWN_KIND"),
    ("kind by unknown name", row(kind="nope"), "UNKNOWN_KIND"),
    ("kind of 4 KiB", row(kind="k" * 4096), "UNKNOWN_KIND"),
    ("bad UTF-8", row()[:1] + b"\xa1\xff" + row()[3:], "BAD_UTF8"),
    ("no producer", row(producer=""), "BAD_ID"),
    ("id of 4 KiB", row(session="s" * 4096), "BAD_ID"),
    ("id of 65", row(run="r" * 65), "BAD_ID"),
    ("entity of 129", row(entity="e" * 129), "BAD_ID"),
    ("dot dot", row(session=".."), "BAD_ID"),
    ("dot", row(producer="."), "BAD_ID"),
    ("dots last", row(after=".."), "BAD_ID"),
    ("slash", row(tenant="a/b"), "BAD_ID"),
    ("newline", row(session="a\n"), "BAD_ID"),
    ("newline shift", row(tenant="a\nb", session="", run=""), "BAD_ID"),
    ("trailing newline", row(after="a\n"), "BAD_ID"),
    ("NUL", row(session="a\0"), "BAD_ID"),
    ("confusable", row(session="\u0430dmin"), "BAD_ID"),
    ("full width digit", row(session="\uff11"), "BAD_ID"),
]


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in ITEMS], ids=[case[0] for case in ITEMS])
def test_bad_items(data: bytes, reason: str) -> None:
    """P3, P5, P6, P9, P11 on one envelope."""
    assert refused(lambda: read(data)) == reason
    assert read(row())[KIND] == "USER_MESSAGE"


def test_body_limit_of_an_item() -> None:
    """A body over its limit is TOO_LARGE; the limit itself passes."""
    limits = Limits(body_bytes=10)
    assert unpack_envelope(row(body=b"x" * 10), 0.0, KINDS, limits)
    assert refused(lambda: unpack_envelope(row(body=b"x" * 11), 0.0, KINDS, limits)) == "TOO_LARGE"


def test_entity_may_be_long_and_an_unusable_trace_is_dropped() -> None:
    """Topics and documents take 128 characters; a bad traceparent becomes none."""
    assert read(row(entity="topic:" + "a" * 122))
    assert read(row(trace="x" * 55))[TRACE] == ""
    assert read(row(trace=TRACEPARENT))[TRACE] == TRACEPARENT


def test_pickle_stays_bytes() -> None:
    """P12: a pickle is a body like any other."""
    evil = pickle.dumps(print)
    assert read(row(body=evil))[11] == evil
    assert unpack_body(pack_body({"a": evil})) == {"a": evil}


def test_deadlines_travel_as_remaining_time() -> None:
    """1.5 s left here are 1.5 s left there, whatever the clocks say; an expired one has 0 ms."""
    env = envelope("LOG", producer="p", counter=1, tenant="t", session="s", lane=3, deadline=11.5)
    assert unpack_envelope(pack_envelope(env, 10.0, KINDS), 1000.0, KINDS)[DEADLINE] == 1001.5
    assert unpack_envelope(pack_envelope(env, 99.0, KINDS), 1000.0, KINDS)[DEADLINE] == 1000.0


def test_users_kinds_travel_by_name() -> None:
    """A packed envelope can be forwarded to a host with another kind table order."""
    env = envelope("orders.placed", producer="p", counter=1, tenant="t", session="s", lane=2)
    assert b"orders.placed" in pack_envelope(env, 0.0, KINDS)
    assert refused(lambda: unpack_envelope(pack_envelope(env, 0.0, KINDS), 0.0, KindTable())) == "UNKNOWN_KIND"


@pytest.mark.parametrize("value", [2**64, {1, 2}, "\ud800", io.BytesIO()])
def test_packing_nonsense_is_a_local_error(value: object) -> None:
    """What cannot be packed is the caller's bug, named as such."""
    with pytest.raises(LocalProtocolError):
        pack_body({"a": value})


def test_ids() -> None:
    """The id rule on its own."""
    assert valid_id("a.b:c-d_1")
    assert not any(valid_id(text) for text in ["", ".", "..", "a/b", "a\n", "x" * 65, "é"])


def test_text() -> None:
    """Plain text bodies: UTF-8 without NUL and BOM, bounded."""
    assert decode_text("häß 你好\u202e".encode()) == "häß 你好\u202e"
    for data in (b"\xff", b"a\0", b"\xef\xbb\xbfa"):
        assert refused(lambda data=data: decode_text(data)) == "BAD_UTF8"  # type: ignore[misc]
    assert refused(lambda: decode_text(b"abc", Limits(body_bytes=2))) == "TOO_LARGE"


WORST = [
    ("item of arrays", lambda: read(b"\x9c" + b"\x90" * 1_000_000)),
    ("item of nested rows", lambda: read((b"\x9c\xa0" + b"\x9c\xa0" * 500) + b"\xc0" * 900_000)),
    (
        "body of many strings",
        lambda: unpack_body(b"\x81\xa1a\xdc\x27\x10" + (b"\xdc\x00\x20" + b"\xa2ab" * 32) * 10_000),
    ),
    ("body of nested headers", lambda: unpack_body(b"\x81\xa1a" + b"\xdc\x27\x10" * 30)),
    ("JSON of joined strings", lambda: decode_json(b"," * 50_001 + b'""' * 400_000)),
    ("JSON of strings", lambda: decode_json(b"[" + b'["ab","cd"],' * 80_000 + b"1]")),
]


@pytest.mark.parametrize("call", [case[1] for case in WORST], ids=[case[0] for case in WORST])
def test_memory_stays_bounded(call: Callable[[], object]) -> None:
    """P4: refusing 1 MiB of the worst input allocates less than 16 MiB at its peak."""
    tracemalloc.start()
    try:
        with pytest.raises(PeerProtocolError):
            call()
        assert tracemalloc.get_traced_memory()[1] < 16 * 1_048_576
    finally:
        tracemalloc.stop()


def test_a_kept_packer_says_what_pack_envelope_says() -> None:
    """Packed with the same packer, events do not influence each other, not even one that cannot be packed."""
    packer = EnvelopePacker(KINDS)
    good = envelope(
        "USER_MESSAGE", producer="c", counter=1, tenant="t", session="s", lane=Lane.HIGH, deadline=2.0, body=b"x" * 9000
    )
    bad = envelope("USER_MESSAGE", producer="c", counter=1 << 70, tenant="t", session="s", lane=1)
    expected = pack_envelope(good, 1.0, KINDS)
    assert packer.pack(good, 1.0) == expected
    with pytest.raises(LocalProtocolError):
        packer.pack(bad, 1.0)
    assert packer.pack(good, 1.0) == expected
    with pytest.raises(PeerProtocolError):
        packer.pack(envelope("NO_SUCH", producer="c", counter=1, tenant="t", session="s", lane=1), 1.0)
