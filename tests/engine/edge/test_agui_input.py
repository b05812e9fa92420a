"""What AG-UI clients post: taken as the protocol's own package writes it, refused with the field's name."""

from __future__ import annotations

import base64
import json
from typing import Any

import ag_ui.core as agui
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.codec import valid_id
from laneway.engine.edge.agui_input import engine_id, read_run
from laneway.engine.limits import Limits
from laneway.routing.errors import PeerProtocolError

LEAST: dict[str, Any] = {"threadId": "t1", "runId": "r1", "messages": []}


def written(ours: str) -> str:
    """What a client wrote for an id of ours."""
    coded = ours.removeprefix("x:")
    return ours if coded == ours else base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()


def posted(**fields: Any) -> bytes:
    return json.dumps(LEAST | fields).encode()


def test_a_stock_clients_input_is_taken_whole() -> None:
    """What the protocol's own package writes arrives at the model field by field."""
    asked = agui.RunAgentInput(
        thread_id="t1",
        run_id="r1",
        parent_run_id="r0",
        state={"count": 1},
        messages=[agui.UserMessage(id="m1", content="hi")],
        tools=[agui.Tool(name="look", description="looks", parameters={"type": "object"})],
        context=[agui.Context(description="place", value="here")],
        forwarded_props={"a": 1},
    )
    written = json.loads(asked.model_dump_json(by_alias=True, exclude_none=True))
    request = read_run(json.dumps(written).encode())
    assert json.loads(request.body) == written
    assert (request.thread, request.run, request.session, request.run_id) == ("t1", "r1", "t1", "r1")


def test_null_optionals_and_unknown_fields_are_forgiven() -> None:
    """Clients of other makes write null for what is absent, and newer ones more fields."""
    request = read_run(posted(state=None, tools=None, resume=None, parentRunId=None, invented={"x": [1]}))
    assert json.loads(request.body) == LEAST


@pytest.mark.parametrize(
    ("body", "reason", "names"),
    [
        (b"", "", "JSON"),
        (b"{", "", ""),
        (b"[]", "BAD_TYPE", "one JSON object"),
        (b'"text"', "BAD_TYPE", "one JSON object"),
        (posted(threadId=7), "BAD_TYPE", "threadId"),
        (posted(messages="hi"), "BAD_TYPE", "messages"),
        (posted(messages=[{"id": "m", "role": "emperor", "content": "x"}]), "BAD_TYPE", "messages.0"),
        (posted(messages=[{"id": "m", "role": "user"}]), "BAD_TYPE", "messages.0.user.content"),
        (posted(threadId=""), "BAD_ID", "threadId"),
        (posted(runId="ü" * 24), "BAD_ID", "runId"),
        (posted(state=1e400), "", ""),
        (b'{"threadId":"t1","runId":"r1"}', "BAD_TYPE", "messages"),
        (posted(state="\0"), "", ""),
    ],
)
def test_wrong_input_is_refused_with_the_field(body: bytes, reason: str, names: str) -> None:
    """Nothing is guessed: the error says which field and why."""
    with pytest.raises(PeerProtocolError) as refused:
        read_run(body)
    assert refused.value.reason == (reason or refused.value.reason)
    assert names in refused.value.message


def test_input_is_bounded() -> None:
    """Size, depth and number of values are limits, not crashes."""
    deep = "[" * 100 + "]" * 100
    for body in (posted(state="x" * 2000), posted(state=[0] * 200), posted(state=0)[:-2] + deep.encode() + b"}"):
        with pytest.raises(PeerProtocolError):
            read_run(body, limits=Limits(body_bytes=1000, elements=100, values=100, depth=20))


@pytest.mark.parametrize(
    ("version", "outcomes"), [(None, False), ("1.0", True), ("1.1", True), ("2", True), ("0.9", False), ("next", False)]
)
def test_only_clients_that_say_1_0_know_outcomes(version: str | None, outcomes: bool) -> None:
    """Older clients do not send `protocolVersion`."""
    assert read_run(posted(protocolVersion=version)).outcomes is outcomes


def test_the_agent_of_the_path_is_told_to_the_model() -> None:
    """It stands in forwardedProps and wins over what the client wrote there."""
    assert json.loads(read_run(posted(), agent="sales").body)["forwardedProps"] == {"agent": "sales"}
    body = posted(forwardedProps={"agent": "x", "y": 1})
    assert json.loads(read_run(body, agent="sales").body)["forwardedProps"] == {"agent": "sales", "y": 1}
    with pytest.raises(PeerProtocolError, match="forwardedProps"):
        read_run(posted(forwardedProps=[1]), agent="sales")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=46))
def test_ids_are_mapped_one_to_one(text: str) -> None:
    """Whatever fits becomes an id of ours that says what it was, so no two ids become the same one."""
    if len(text.encode()) > 46 and not valid_id(text):
        return
    ours = engine_id(text)
    assert valid_id(ours)
    assert written(ours) == text


def test_uuids_and_plain_names_stay_as_they_are() -> None:
    """Most ids need no mapping; one that looks like a mapped one is mapped, so that none collide."""
    for text in ("4f1c2c54-4f3e-4c1f-9d1e-8f0f3c1b7a55", "thread:1", "a" * 64):
        assert engine_id(text) == text
    assert engine_id("x:abc") != "x:abc"
    assert written(engine_id("x:abc")) == "x:abc"
