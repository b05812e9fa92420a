"""Bodies of tool calls: what is taken, what is refused and where."""

from __future__ import annotations

import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.tools.entries import Settled
from laneway.actors.tools.lifecycle import State
from laneway.actors.tools.request import failure, pack_answer, parse, unpack_answer
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import Cancelled, Overloaded, ToolArguments, ToolTimeout


def event(body: bytes, entity: str = "") -> Envelope:
    return envelope(
        "TOOL_CALL", producer="cli", counter=7, tenant="t", session="s", lane=1, run="r", entity=entity, body=body
    )


def body(**fields: object) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


def test_a_good_body() -> None:
    """Name, arguments and ids come through; without a call id the event's own names the call."""
    request = parse(event(body(name="time", arguments={"tz": "UTC"}, call_id="c1")))
    assert (request.name, request.arguments, request.call_id) == ("time", {"tz": "UTC"}, "c1")
    assert (request.key.tenant, request.key.session, request.key.run, request.key.call_id) == ("t", "s", "r", "c1")
    assert parse(event(body(name="time"))).call_id == "cli:7"
    assert parse(event(body(name="time"), entity="e1")).call_id == "e1"


def test_an_idempotency_key_spans_runs() -> None:
    """With a key of its own, a call is the same call in any run of the session, and never a call id's."""
    key = parse(event(body(name="pay", call_id="c1", idempotency_key="k"))).key
    assert (key.run, key.call_id, key.named) == ("", "k", True)
    assert key.text != parse(event(body(name="pay", call_id="k"))).key.text


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "BODY"),
        (b"\xc1", "BODY"),
        (b"\xdd\xff\xff\xff\xff", "BODY"),
        (b"\x91" * 100_000, "BODY"),
        (body(name="x") + b"\x00", "BODY"),
        (msgpack.packb([1, 2]), "BODY"),
        (msgpack.packb({"name": "x", "arguments": msgpack.ExtType(42, b"x")}), "BODY"),
        (b"x" * 300_000, "TOO_LARGE"),
        (body(), "name"),
        (body(name=""), "name"),
        (body(name="n" * 129), "name"),
        (body(name=5), "name"),
        (body(name="x", call_id=["y"]), "call_id"),
        (body(name="x", arguments=[1]), "arguments"),
        (body(name="x", arguments={"a": [1, {"b": float("nan")}]}), "arguments.a.1.b"),
        (body(name="x", arguments={"a": float("inf")}), "arguments.a"),
        (body(name="x", arguments={"a": b"bytes"}), "arguments.a"),
    ],
)
def test_a_bad_body_is_a_typed_error_with_its_path(raw: bytes, reason: str) -> None:
    """Nothing but ToolArguments comes out, and the reason says where."""
    with pytest.raises(ToolArguments) as caught:
        parse(event(raw))
    assert caught.value.reason == reason


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    """Any bytes are a request or ToolArguments."""
    try:
        parse(event(raw))
    except ToolArguments:
        return


def test_failures_are_told_as_json() -> None:
    """The state follows the error's class; the content carries code, reason and retry time."""
    assert failure(ToolTimeout("slow")).state is State.TIMED_OUT
    assert failure(Cancelled("stop")).state is State.CANCELLED
    settled = failure(Overloaded("full", reason="TOOL_QUEUE", retry_after_ms=9))
    assert (settled.state, settled.code, settled.retryable) == (State.FAILED, "OVERLOADED", True)
    assert json.loads(settled.content)["error"] == {
        "code": "OVERLOADED",
        "message": "full",
        "retryable": True,
        "reason": "TOOL_QUEUE",
        "retryAfterMs": 9,
    }


def test_answers_survive_the_way_back() -> None:
    """pack_answer and unpack_answer are inverse."""
    result = unpack_answer("c1", pack_answer(Settled(State.FAILED, "{}", "X", retryable=True)))
    assert (result.call_id, result.content, result.code, result.retryable) == ("c1", "{}", "X", True)
