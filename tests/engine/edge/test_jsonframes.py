"""Frames as JSON: nothing is lost either way, and what comes in is held to the codec's limits."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laneway.engine.codec import pack_body
from laneway.engine.edge.jsonframes import JsonFrames
from laneway.engine.frames import Frames
from laneway.engine.limits import Limits
from laneway.routing.envelope import BODY, DEADLINE, Envelope, envelope
from laneway.routing.errors import PeerProtocolError
from tests.engine.edge.double import KINDS


class Clock:
    def now(self) -> float:
        return 100.0


FRAMES = JsonFrames(KINDS, Clock())
PACKED = Frames(KINDS, Clock().now)

ids = st.text("Az09_:-", min_size=1, max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
documents = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
maps = st.dictionaries(texts, documents, max_size=4)
bodies = st.one_of(
    st.binary(max_size=40),
    texts.map(str.encode),
    maps.map(pack_body),
    maps.map(lambda fields: b"\xff" + pack_body(fields)),
    st.dictionaries(st.text(max_size=3), st.binary(max_size=3), max_size=2).map(msgpack.packb),
)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    return envelope(
        draw(st.sampled_from(["USER_MESSAGE", "TEXT_MESSAGE_CONTENT", "DOC_SYNC", "RUN_FINISHED", "PUBLISH"])),
        producer=draw(ids),
        counter=draw(st.integers(1, 2**63 - 1)),
        tenant=draw(ids | st.just("")),
        session=draw(ids | st.just("")),
        lane=draw(st.integers(0, 3)),
        run=draw(ids | st.just("")),
        entity=draw(ids | st.just("")),
        deadline=draw(st.just(float("inf")) | st.integers(100, 10_000).map(float)),
        after=draw(ids.map(lambda producer: f"{producer}:7") | st.just("")),
        trace=draw(st.just("") | st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01")),
        body=draw(bodies),
        accepted=100.0,
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(texts, documents, max_size=3), st.lists(envelopes(), max_size=3))
def test_a_frame_comes_back_as_it_was(header: dict[str, Any], events: list[Envelope]) -> None:
    """Every body, byte for byte, and the same frame as in msgpack."""
    data = FRAMES.encode(header, events)
    assert b"\n" not in data
    assert b"\r" not in data
    assert FRAMES.decode(data) == (header, events)
    assert PACKED.decode(PACKED.encode(header, events))[1] == events


@given(envelopes())
def test_the_weight_of_a_body_is_known(env: Envelope) -> None:
    """A client without msgpack can count credit: from the text's own bytes, or as it is told."""
    shown = FRAMES.event(env)
    own = len(shown.get("text", "").encode())
    assert shown.get("bytes", own) == len(env[11])


@given(envelopes())
def test_json_comes_back_as_it_was(env: Envelope) -> None:
    """The object of an event is the object of what it is read as."""
    shown = FRAMES.event(env)
    assert [FRAMES.event(each) for each in FRAMES.events([json.loads(json.dumps(shown))])] == [shown]


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [
        ("USER_MESSAGE", b"hi", {"text": "hi"}),
        ("RUN_FINISHED", pack_body({"runId": "r"}), {"data": {"runId": "r"}}),
        ("TEXT_MESSAGE_CONTENT", b"\xff" + pack_body({"delta": "x"}), {"sealed": {"delta": "x"}}),
        ("DOC_SYNC", b"\x01\x02", {"base64": "AQI="}),
        ("USER_MESSAGE", b"\xff\xfe", {"base64": "//4="}),
        ("USER_MESSAGE", b"a\0b", {"base64": "YQBi"}),
        ("RUN_FINISHED", b"\x81\xa1a\xc4\x01x", {"base64": "gaFhxAF4"}),  # bytes inside are no JSON
        ("RUN_FINISHED", b"\x81\xa1a\xcd\x00\x01", {"base64": "gaFhzQAB"}),  # packed longer than need be
        ("USER_MESSAGE", b"", {}),
    ],
)
def test_the_form_of_a_body(kind: str, body: bytes, shown: dict[str, Any]) -> None:
    """One key, the first that gives the same bytes back."""
    env = envelope(kind, producer="p", counter=1, tenant="", session="", lane=1, body=body)
    assert {
        key: value for key, value in FRAMES.event(env).items() if key in ("text", "data", "sealed", "base64")
    } == shown


def test_what_is_absent_has_a_meaning() -> None:
    """A browser writes counter, kind and body; the server stamps the rest."""
    header, (env,) = FRAMES.decode(b'{"events": [{"counter": 3, "kind": "USER_MESSAGE", "text": "h\\u00e4"}]}')
    assert header == {}
    assert (env[:5], env[DEADLINE], env[BODY]) == (("peer", 3, "USER_MESSAGE", "", ""), float("inf"), "hä".encode())
    assert FRAMES.decode(b'{"header": {"ack": ["e", 0, 1]}}') == ({"ack": ["e", 0, 1]}, [])


def test_the_trace_of_the_request_is_that_of_its_events() -> None:
    """Unless an event has its own; what is no traceparent is none."""
    own, request = ("00-" + digit * 32 + "-" + "c" * 16 + "-01" for digit in "ab")
    given = [{"counter": 1, "kind": "USER_MESSAGE"}, {"counter": 2, "kind": "USER_MESSAGE", "trace": own}]
    assert [env[9] for env in FRAMES.events(given, request)] == [request, own]
    assert [env[9] for env in FRAMES.events(given, "nonsense")] == ["", own]


def event(**fields: Any) -> bytes:
    return json.dumps({"events": [{"counter": 1, "kind": "USER_MESSAGE", **fields}]}).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "TRUNCATED"),
        (b"[]", "BAD_TYPE"),
        (b'{"headers": {}}', "BAD_TYPE"),
        (b'{"header": []}', "BAD_TYPE"),
        (b'{"events": {}}', "BAD_TYPE"),
        (b'{"events": [7]}', "BAD_TYPE"),
        (b'{"events": [{"kind": "USER_MESSAGE"}]}', "NUMBER_RANGE"),
        (b'{"events": [{"counter": 1}]}', "UNKNOWN_KIND"),
        (event(kind="NO_SUCH"), "UNKNOWN_KIND"),
        (event(kind=60_000), "UNKNOWN_KIND"),
        (event(kind=1.5), "BAD_TYPE"),
        (event(counter="1"), "BAD_TYPE"),
        (event(counter=2**63), "NUMBER_RANGE"),
        (event(lane=9), "NUMBER_RANGE"),
        (event(lane=True), "BAD_TYPE"),
        (event(remaining_ms=-1), "NUMBER_RANGE"),
        (event(run="../etc"), "BAD_ID"),
        (event(run=None), "BAD_TYPE"),
        (event(colour="red"), "BAD_TYPE"),
        (event(text="a", data={}), "BAD_TYPE"),
        (event(text=7), "BAD_TYPE"),
        (event(data=[1]), "BAD_TYPE"),
        (event(sealed="x"), "BAD_TYPE"),
        (event(base64="a"), "BAD_BASE64"),
        (event(base64="ä" * 4), "BAD_BASE64"),
        (event(text="\ud800"), "BAD_UTF8"),
        (event(text="a\0"), "BAD_UTF8"),
        (event(data={"x": json.loads("[" * 40 + "]" * 40)}), "DEPTH_EXCEEDED"),
        (event(text="x" * 3000), "TOO_LARGE"),
        (json.dumps({"events": [{}] * 20}).encode(), "TOO_MANY_ITEMS"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, reason: str) -> None:
    """With the codec's own reasons."""
    frames = JsonFrames(KINDS, Clock(), Limits(body_bytes=2048, items=16))
    with pytest.raises(PeerProtocolError) as refused:
        frames.decode(data)
    assert refused.value.reason == reason
