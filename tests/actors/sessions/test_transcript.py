"""The transcript folds events into AG-UI messages."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.sessions.transcript import Transcript
from laneway.routing.envelope import SEAL, Envelope, envelope


def _event(kind: str, entity: str = "", body: bytes | dict[str, Any] = b"", counter: int = 1) -> Envelope:
    packed = msgpack.packb(body) if isinstance(body, dict) else body
    return envelope(kind, producer="p", counter=counter, tenant="t", session="s", lane=2, entity=entity, body=packed)


def test_a_turn_becomes_messages() -> None:
    """A user message, an answer in deltas, a tool call and its result fold into four messages' fields."""
    transcript = Transcript()
    for env in (
        _event("USER_MESSAGE", body="Hi é".encode(), counter=7),
        _event("TEXT_MESSAGE_START", "m1", {"messageId": "m1", "role": "assistant"}),
        _event("TEXT_MESSAGE_CONTENT", "m1", b"Hel"),
        _event("TEXT_MESSAGE_CONTENT", "m1", bytes([SEAL]) + msgpack.packb({"delta": "lo"})),
        _event("TEXT_MESSAGE_END", "m1", {}),
        _event("TOOL_CALL_START", "c1", {"toolCallId": "c1", "toolCallName": "time", "parentMessageId": "m1"}),
        _event("TOOL_CALL_ARGS", "c1", b'{"tz":'),
        _event("TOOL_CALL_ARGS", "c1", b'"UTC"}'),
        _event("TOOL_CALL_RESULT", "c1", {"messageId": "r1", "toolCallId": "c1", "content": "12:00"}),
        _event("PROGRESS", body={"x": 1}),
    ):
        transcript.fold(env)
    call = {"id": "c1", "type": "function", "function": {"name": "time", "arguments": '{"tz":"UTC"}'}}
    assert transcript.messages() == [
        {"id": "p:7", "role": "user", "content": "Hi é"},
        {"id": "m1", "role": "assistant", "content": "Hello", "toolCalls": [call]},
        {"id": "r1", "role": "tool", "toolCallId": "c1", "content": "12:00"},
    ]


@pytest.mark.parametrize("named", ["", "m-1"])
def test_a_run_brings_its_question(named: str) -> None:
    """What RUN_STARTED says was asked is folded once, whether the asking event was seen or not, and named or not."""
    question = {"id": named or "p:7", "role": "user", "content": "Hi"}
    started = _event("RUN_STARTED", body={"threadId": "s", "runId": "r", "input": {"messages": [question]}})
    rebuilt, live = Transcript(), Transcript()
    live.fold(_event("USER_MESSAGE", named, body=b"Hi", counter=7))
    for transcript in (rebuilt, live):
        transcript.fold(started)
        assert transcript.messages() == [question]


def test_a_snapshot_replaces_everything() -> None:
    """MESSAGES_SNAPSHOT is the new truth."""
    transcript = Transcript()
    transcript.fold(_event("USER_MESSAGE", body=b"old"))
    transcript.fold(_event("MESSAGES_SNAPSHOT", body={"messages": [{"id": "x", "role": "user", "content": "new"}]}))
    assert transcript.messages() == [{"id": "x", "role": "user", "content": "new"}]


def test_one_endless_message_is_cut() -> None:
    """A message that alone would burst the transcript is cut and says so, streamed or whole."""
    transcript = Transcript(max_bytes=1000)
    transcript.fold(_event("TEXT_MESSAGE_START", "m", {}))
    for _ in range(50):
        transcript.fold(_event("TEXT_MESSAGE_CONTENT", "m", b"x" * 100))
    (streamed,) = transcript.messages()
    assert len(streamed["content"]) < 1100
    assert streamed["content"].endswith("[cut: too long for the transcript]")
    transcript.fold(_event("USER_MESSAGE", body=b"y" * 5000))
    transcript.fold(_event("TOOL_CALL_RESULT", "c", {"messageId": "r", "content": "z" * 5000}))
    assert all(len(str(m["content"])) < 1100 for m in transcript.messages())
    assert transcript.bytes <= 1000


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300)), max_size=60))
def test_bytes_stay_bounded(parts: list[tuple[int, int]]) -> None:
    """However much is said, the transcript stays within its bound plus its newest message."""
    transcript = Transcript(max_bytes=1000)
    for counter, (message, size) in enumerate(parts):
        transcript.fold(_event("TEXT_MESSAGE_START", f"m{message}", {}, counter))
        transcript.fold(_event("TEXT_MESSAGE_CONTENT", f"m{message}", b"x" * size, counter))
        assert transcript.bytes <= 1000 or len(transcript) == 1
    contents = [m["content"].removesuffix(" [cut: too long for the transcript]") for m in transcript.messages()]
    assert transcript.bytes == sum(len(content) + 96 for content in contents)


def test_a_message_of_many_pieces_weighs_what_its_text_does() -> None:
    """While it goes on there are 512 pieces at most; once the next one begins, one."""
    transcript = Transcript()
    transcript.fold(_event("TEXT_MESSAGE_START", "m", {}))
    said = [str(number) for number in range(2_000)]
    pieces = []
    for text in said:
        transcript.fold(_event("TEXT_MESSAGE_CONTENT", "m", text.encode()))
        pieces.append(len(transcript._messages["m"].pieces))
    assert max(pieces) == 512
    transcript.fold(_event("TEXT_MESSAGE_START", "n", {}))
    assert len(transcript._messages["m"].pieces) == 1
    transcript.fold(_event("TEXT_MESSAGE_CONTENT", "m", b" and on"))
    assert [message["content"] for message in transcript.messages()] == ["".join(said) + " and on", ""]
