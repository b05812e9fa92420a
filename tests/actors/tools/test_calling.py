"""A tool call as its caller makes it: the sequence, the event, and whatever comes of it as a result."""

from __future__ import annotations

import asyncio
import json

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.ports import Outcome
from laneway.actors.tools.calling import call, unstarted

HANDLED = Outcome("handled", msgpack.packb({"content": "21", "code": "", "retryable": False}))


class Talk:
    """What was told and what was asked, in one line."""

    def __init__(self, outcome=HANDLED):
        self.said, self.outcome = [], outcome

    async def emit(self, out):
        self.said.append(out)

    async def emit_all(self, outs):
        self.said.extend(outs)

    async def ask(self, out):
        self.said.append(out)
        return self.outcome


def _made(talk, *args):
    return asyncio.run(call(talk, talk.ask, *args))


def test_the_sequence_stands_around_the_call():
    """START, ARGS and END before it is dispatched, RESULT once it is answered; all of one entity."""
    talk = Talk()
    result = _made(talk, "double", {"x": 10.5, "ü": [None]}, "c1", "m1")
    kinds = ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL", "TOOL_CALL_RESULT"]
    assert [out.kind for out in talk.said] == kinds
    assert {out.entity for out in talk.said} == {"c1"}
    start, args, end, asked, told = (out.body for out in talk.said)
    assert msgpack.unpackb(start) == {"toolCallId": "c1", "toolCallName": "double", "parentMessageId": "m1"}
    assert json.loads(args) == {"x": 10.5, "ü": [None]}
    assert msgpack.unpackb(end) == {"toolCallId": "c1"}
    assert msgpack.unpackb(asked) == {"name": "double", "arguments": {"x": 10.5, "ü": [None]}, "call_id": "c1"}
    assert msgpack.unpackb(told)["content"] == result.content == "21"


@pytest.mark.parametrize(
    ("args", "sent"),
    [({1: (2, 3)}, {"1": [2, 3]}), ({"a": {None: True}}, {"a": {"null": True}}), ({}, {}), ({"t": "é"}, {"t": "é"})],
)
def test_arguments_are_sent_as_the_json_that_is_told(args, sent):
    """What JSON makes of keys and tuples reaches the tool too."""
    talk = Talk()
    _made(talk, "double", args, "c1")
    assert msgpack.unpackb(talk.said[3].body)["arguments"] == json.loads(talk.said[1].body) == sent


@given(
    st.dictionaries(
        st.text(max_size=3) | st.integers(),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**64 - 1)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_flat_arguments_are_what_json_would_make_of_them(given_):
    """With and without a way through JSON the tool gets the same values, of the same types."""
    talk = Talk()
    result = _made(talk, "double", given_, "c1")
    assert result.ok
    told = json.loads(json.dumps(given_))
    assert repr(msgpack.unpackb(talk.said[3].body)["arguments"]) == repr(told) == repr(json.loads(talk.said[1].body))


@pytest.mark.parametrize("value", [{1, 2}, "\ud800", float("nan"), b"raw", 2**70])
def test_arguments_that_are_no_json_are_answered_so(value):
    """Nothing is told and nothing is started."""
    talk = Talk()
    result = _made(talk, "double", {"x": value}, "c1")
    assert (result.code, talk.said) == ("INVALID_ARGUMENT", [])


def test_an_outcome_that_is_no_answer_is_a_result_too():
    """A failure has its code, and text of a user's own pool is the content."""
    failed = _made(Talk(Outcome("failed", code="OVERLOADED", message="later", retryable=True)), "double", {}, "c1")
    assert (failed.code, failed.retryable) == ("OVERLOADED", True)
    assert json.loads(failed.content)["error"]["message"] == "later"
    assert _made(Talk(Outcome("handled", b"plain")), "double", {}, "c1").content == "plain"
    assert unstarted("c1", Outcome("expired", code="EXPIRED")).code == "EXPIRED"
