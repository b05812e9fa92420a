"""The AG-UI boundary, with the protocol's own package as the oracle."""

from __future__ import annotations

import inspect
import json
from typing import Any

import ag_ui.core as agui
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from laneway.actors.ports import Out
from laneway.engine.codec import pack_body, unpack_body
from laneway.engine.events import EVENT_TYPES, event_model, from_envelope, run_input, to_out
from laneway.engine.messages import AgUiObject
from laneway.routing.classify import BUILTIN_KINDS
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import PeerProtocolError

EVENT: TypeAdapter[Any] = TypeAdapter(agui.Event)
CLASSES = {
    cls.model_fields["type"].default.value: cls
    for _, cls in inspect.getmembers(agui, inspect.isclass)
    if issubclass(cls, agui.BaseEvent) and cls is not agui.BaseEvent
}
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
pointer = st.from_regex(r"(/([^/~\x00\ud800-\udfff]|~[01]){0,4}){0,3}", fullmatch=True)


def carried(out: Out) -> Envelope:
    """The envelope that a session would send for it."""
    return envelope(
        out.kind, producer="engine", counter=1, tenant="t", session="s", lane=2, entity=out.entity, body=out.body
    )


def oracle_dump(event: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = event.model_dump(mode="json", by_alias=True)
    return dumped


def events() -> st.SearchStrategy[Any]:
    """Every event that the ag-ui package can construct."""
    return st.sampled_from(sorted(CLASSES)).flatmap(lambda kind: built(CLASSES[kind]))


def built(model: Any) -> st.SearchStrategy[Any]:
    """Any instance of one of the package's models, each optional field present or absent."""
    required, optional = {}, {}
    for name, field in model.model_fields.items():
        if name == "type" and issubclass(model, agui.BaseEvent):
            continue
        target = required if field.is_required() else optional
        target[name] = value_of(field.annotation, bool(field.metadata))
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: model(**aliased(model, given)))


def aliased(model: Any, given: dict[str, Any]) -> dict[str, Any]:
    return {(model.model_fields[name].alias or name): value for name, value in given.items()}


def value_of(annotation: Any, constrained: bool = False) -> st.SearchStrategy[Any]:
    """A strategy for one annotation of the package's models."""
    origin, arguments = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", ())
    if annotation is Any:
        return json_like
    if annotation is type(None):
        return st.none()
    if annotation is str:
        return pointer if constrained else text
    if annotation is int:
        return st.integers(0, 2**53 - 1)
    if annotation is bool:
        return st.booleans()
    if inspect.isclass(annotation) and origin is None:
        return built(annotation)
    if str(origin) == "typing.Literal":
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(value_of(arguments[0]), min_size=1 if constrained else 0, max_size=2)
    if origin is dict:
        return st.dictionaries(text, json_like, max_size=2)
    if hasattr(annotation, "__metadata__"):
        return value_of(arguments[0] if arguments else annotation.__origin__)
    return st.one_of([value_of(argument) for argument in arguments])


def test_the_table_has_the_protocols_types() -> None:
    """31 types, the package's, each a built-in kind."""
    assert set(EVENT_TYPES) == set(CLASSES) == {kind.value for kind in agui.EventType}
    assert len(EVENT_TYPES) == 31
    assert set(EVENT_TYPES) <= {kind.name for kind in BUILTIN_KINDS}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_fields_are_the_packages(kind: str) -> None:
    """Each type has the same wire names, and the same ones are required."""

    def names(model: Any) -> dict[str, bool]:
        return {field.alias or name: field.is_required() for name, field in model.model_fields.items()}

    ours, theirs = names(event_model(kind)), names(CLASSES[kind])
    assert ours == theirs


@settings(max_examples=400, deadline=None)
@given(events())
def test_every_event_round_trips(event: Any) -> None:
    """Package object -> Out -> envelope -> dict -> package object: the same dump, without nulls."""
    out = to_out(event)
    back = from_envelope(carried(out))
    assert back == oracle_dump(event)
    again = EVENT.validate_python(back)
    assert again.model_dump(by_alias=True, exclude_none=True) == event.model_dump(by_alias=True, exclude_none=True)
    assert to_out(json.loads(json.dumps(back))) == out, "the same from a mapping"


def test_plain_deltas_are_plain_text() -> None:
    """A delta with nothing but its text is UTF-8 with the id as entity, also when it is empty."""
    for kind, name in (
        ("TEXT_MESSAGE_CONTENT", "messageId"),
        ("TOOL_CALL_ARGS", "toolCallId"),
        ("REASONING_MESSAGE_CONTENT", "messageId"),
    ):
        assert to_out({"type": kind, name: "m1", "delta": "héllo"}) == Out(kind, "héllo".encode(), "m1")
        assert to_out({"type": kind, name: "m1", "delta": ""}) == Out(kind, b"", "m1")


def test_deltas_that_carry_more_are_sealed() -> None:
    """A timestamp, metadata or a subagent seals the delta; nothing is lost."""
    event = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "hi", "subagentRunId": "s", "timestamp": 5}
    out = to_out(event)
    assert out.body[0] == 0xFF
    assert unpack_body(out.body[1:]) == {key: value for key, value in event.items() if key != "type"}
    assert out.entity == "m1"
    assert from_envelope(carried(out)) == event


@pytest.mark.parametrize("odd", ["with space", "slash/ed", "ü", "x" * 129, ".."])
def test_foreign_ids_are_kept_and_hashed(odd: str) -> None:
    """An id that cannot be an entity here stays in the body; equal ids give equal entities."""
    event = {"type": "TEXT_MESSAGE_CONTENT", "messageId": odd, "delta": "hi"}
    out = to_out(event)
    assert out.entity.startswith("hash:")
    assert out.entity == to_out({"type": "TEXT_MESSAGE_END", "messageId": odd}).entity
    assert from_envelope(carried(out)) == event


def test_entities() -> None:
    """Calls are the entity before messages; run marks have none."""
    result = {"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c", "content": "x"}
    assert to_out(result).entity == "c"
    assert to_out({"type": "ACTIVITY_DELTA", "messageId": "m", "activityType": "a", "patch": []}).entity == "m"
    assert to_out({"type": "RUN_STARTED", "threadId": "t", "runId": "r"}).entity == ""


def test_absent_is_never_null_but_null_is_a_value() -> None:
    """Optional nulls disappear; a required null, and one inside free JSON, stays."""
    out = to_out({"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "result": None, "outcome": None})
    assert unpack_body(out.body) == {"threadId": "t", "runId": "r"}
    out = to_out({"type": "CUSTOM", "name": "n", "value": None, "metadata": {"a": None}})
    assert unpack_body(out.body) == {"name": "n", "value": None, "metadata": {"a": None}}
    patch = [{"op": "add", "path": "/a", "value": None}]
    assert unpack_body(to_out({"type": "STATE_DELTA", "delta": patch}).body) == {"delta": patch}


BAD = [
    ("unknown type", {"type": "THINKING_START"}, "UNKNOWN_KIND", "THINKING_START"),
    ("no type", {"messageId": "m"}, "BAD_TYPE", "type"),
    ("type is a number", {"type": 3}, "BAD_TYPE", "type"),
    ("not a mapping", ["TEXT_MESSAGE_END"], "BAD_TYPE", "list"),
    ("missing field", {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m"}, "BAD_TYPE", "delta"),
    ("unknown field", {"type": "TEXT_MESSAGE_END", "messageId": "m", "seq": 1}, "BAD_TYPE", "seq.*metadata"),
    ("wrong type", {"type": "STEP_STARTED", "stepName": {}}, "BAD_TYPE", "stepName"),
    ("float timestamp", {"type": "STEP_STARTED", "stepName": "s", "timestamp": 1.5}, "BAD_TYPE", "timestamp"),
    ("bad pointer", {"type": "STATE_DELTA", "delta": [{"op": "remove", "path": "a"}]}, "BAD_TYPE", "path"),
    ("bad op", {"type": "STATE_DELTA", "delta": [{"op": "merge", "path": "/a"}]}, "BAD_TYPE", "delta.0"),
    ("NaN", {"type": "STATE_SNAPSHOT", "snapshot": {"a": float("nan")}}, "NON_FINITE", "finite"),
    ("2^64", {"type": "CUSTOM", "name": "n", "value": 2**64}, "NUMBER_RANGE", "integer"),
    ("a set", {"type": "CUSTOM", "name": "n", "value": {1}}, "BAD_TYPE", "set"),
    ("surrogate", {"type": "CUSTOM", "name": "n", "value": "\ud800"}, "BAD_UTF8", "surrogate"),
    ("surrogate delta", {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "\ud800"}, "BAD_UTF8", "surrogate"),
    ("no interrupts", {"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": {"type": "interrupt"}},
     "BAD_TYPE", "interrupts"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "reason", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_events_are_named(event: object, reason: str, words: str) -> None:
    """P9: unknown types and fields, wrong values: MALFORMED with the path of the first."""
    with pytest.raises(PeerProtocolError, match=words) as caught:
        to_out(event)
    assert caught.value.reason == reason


def test_engine_fields_do_not_reach_agui() -> None:
    """RUN_ERROR's `after` is ours: AG-UI clients do not see it."""
    body = pack_body({"message": "lost", "code": "HOST_LOST", "after": 17})
    assert from_envelope(carried(Out("RUN_ERROR", body))) == {
        "type": "RUN_ERROR",
        "message": "lost",
        "code": "HOST_LOST",
    }


@pytest.mark.parametrize("kind", ["GAP", "PUBLISH", "orders.placed"])
def test_other_kinds_are_not_agui(kind: str) -> None:
    """Kinds that AG-UI does not have are refused by name."""
    with pytest.raises(PeerProtocolError, match=kind):
        from_envelope(carried(Out(kind, b"\x80")))


@settings(max_examples=100, deadline=None)
@given(built(agui.RunAgentInput))
def test_run_input_round_trips(given: Any) -> None:
    """Every RunAgentInput of the package is taken and dumps the same."""
    wire = given.model_dump_json(by_alias=True)
    ours = run_input(wire.encode())
    assert isinstance(ours, AgUiObject)
    assert ours.model_dump(by_alias=True) == json.loads(wire)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"threadId":"t","runId":"r"}', "messages"),
        (b'{"threadId":"t","runId":"r","messages":[],"extra":1}', "extra"),
        (b'{"threadId":"t","runId":"r","messages":[{"role":"binary","id":"1"}]}', r"messages\.0"),
        (b'{"threadId":"t","runId":"r","messages":[{"role":"user","id":"1"}]}', r"messages\.0\.user\.content"),
        (b"[]", "the whole"),
        (b"{", "JSON"),
    ],
)
def test_bad_run_input(data: bytes, words: str) -> None:
    """What is wrong is named with its path."""
    with pytest.raises(PeerProtocolError, match=words):
        run_input(data)
